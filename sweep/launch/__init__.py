"""Launch arguments of a row: what to type into a framework to run the layout that was found.

option_names   options that each framework documents, with the release and the source
options        reads them
arguments      a launch: its arguments, and what the framework cannot express
jobs           what is launched: a training step, instances that serve
megatron, mindspeed, bridge, titan   trainers
vllm, sglang, tensorrt               servers
export         which framework fits a row
"""
