# %% [markdown]
# # Which of two machines trains Llama 3 8B on sixteen chips, and why?
#
# Cells begin with `# %%`: Jupyter (with jupytext), VS Code, PyCharm and marimo open this file as a notebook, and
# `python docs/notebook.py` runs it. A test does so too.

# %%
import sweep

STUDY = {
    "question": "Which machine trains Llama 3 8B faster on sixteen chips, and with less energy?",
    "chips": [8, 16],
    "workloads": [{"model": "llama-3-8b", "sequence": "8192 token", "batch": 128}],
    "designs": [{"system": "dgx-h100"}, {"system": "hgx-h20"}],
    "layout": {"recompute": "none", "zero_stage": 1},
    "search": {"rows": "top:20"},
}

# %% What would it run? Nothing is computed yet.
plan = sweep.plan(STUDY, workers=1)
assert plan["cases"] == 4
print(f"{plan['layouts']:,} legal layouts in {plan['cases']} cases")

# %% Run it. The rows go to runs/; the same study again is read back.
run = sweep.run(STUDY, workers=0, report=False)
for row in run["answer"]:
    print(f"{row['design']:<10} {row['chips']:>3} chips {row['tokens_per_s']:>9,.0f} tokens/s, MFU {row['mfu']:.0%}")

# %% All rows as a table: a pandas DataFrame with the columns of docs/results.md.
rows = sweep.load(run["run"])
best = rows.loc[rows.groupby(["design", "chips"])["tokens_per_s"].idxmax()]
print(best[["design", "chips", "tp", "pp", "dp", "tokens_per_s", "energy_per_token_j"]].to_string(index=False))

# %% Where does the time of the best row go, and what does it rest on?
why = sweep.explain(run["run"])
print(f"{why['step_time_s']:.2f} s, between {why['full_overlap_s']:.2f} and {why['no_overlap_s']:.2f}")
print({part: f"{seconds / why['step_time_s']:.0%}" for part, seconds in why["time_s"].items() if seconds > 0.0})
print(f"{why['estimated_time_share']:.0%} of it rests on estimates; most on {why['rests_on'][0]['number']}")

# %% The two machines side by side: only what differs.
first, second = (best[best["chips"] == 16].index[i] for i in range(2))
for line in sweep.compare(f"{run['run']}#{first}", f"{run['run']}#{second}")["differs"][:5]:
    print(line["name"], [f"{ratio:.2f} x" for ratio in line["ratios"] if ratio is not None])

# %% The same with a faster memory: any key of the study can be changed.
faster = sweep.run(STUDY, workers=0, report=False, overrides={"designs[hgx-h20].change.chip.hbm_bandwidth": "8 TB/s"})
assert faster["run"] != run["run"]

# %% One question without a study; where nothing fits, what would.
asked = sweep.try_(model="llama-3.1-405b", system="dgx-h100", chips=16)
assert not asked["answer"]
print([relaxation["to"] for relaxation in asked["why_not"]["relaxations"]])
