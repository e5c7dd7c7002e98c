// Draws each figure into its place, in the page's colours, when that place can be seen for the first time.
(() => {
  "use strict";
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const drawn = new Map();
  const narrow = () => innerWidth < 640;

  const axes = (layout) => {
    const named = Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key));
    return new Set([...named, "xaxis", "yaxis"]);
  };

  // Merged by hand, since an axis of the figure keeps its own title, range and type.
  const dressed = (layout, has_axes) => {
    const ink = css("--ink"), faint = css("--line");
    const size = narrow() ? 12 : 14;
    const one = {
      ...layout,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size, color: ink },
      hoverlabel: { align: "left", bgcolor: css("--paper"), bordercolor: ink, font: { color: ink, size }, namelength: -1 },
      margin: { ...(has_axes ? { l: 8, r: 16, t: 16, b: 8 } : { l: 64, r: 64, t: 48, b: 24 }), ...(layout.margin || {}) },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--soft"), activecolor: ink },
      legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", ...(layout.legend || {}) },
      height: undefined,
      width: undefined,
      autosize: true,
    };
    if (has_axes) {
      for (const axis of axes(layout)) {
        one[axis] = { automargin: true, gridcolor: faint, zerolinecolor: faint, linecolor: faint, ...(layout[axis] || {}) };
      }
    }
    // Lines that a figure leaves without a colour are in the colour of the text.
    one.shapes = (layout.shapes || []).map((s) => ({ ...s, line: { color: ink, ...(s.line || {}) } }));
    one.annotations = (layout.annotations || []).map((a) => ({ ...a, font: { color: ink, ...(a.font || {}) } }));
    return one;
  };

  // "ink" is the colour of text wherever a figure's data name it.
  const inked = (value, ink) => {
    if (Array.isArray(value)) return value.map((each) => inked(each, ink));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, key.endsWith("color") && each === "ink" ? ink : inked(each, ink)]));
    }
    return value;
  };

  const CARTESIAN = ["scatter", "scattergl", "bar", "box", "violin", "heatmap", "histogram", "waterfall", "contour"];
  const draw = (place) => {
    const figure = JSON.parse(document.getElementById(place.id.replace("chart", "figure")).textContent);
    const has_axes = figure.data.every((trace) => CARTESIAN.includes(trace.type || "scatter"));
    // Nothing of a page leaves it: plotly's own button would send the chart to its maker.
    const options = { responsive: true, displaylogo: false, scrollZoom: false, showSendToCloud: false, plotlyServerURL: "",
                      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
    const shown = Plotly.react(place, inked(figure.data, css("--ink")), dressed(figure.layout, has_axes), options);
    if (drawn.has(place)) return shown;
    drawn.set(place, true);
    return shown.then(() => {
      place.dataset.drawn = "yes";
      const picked = document.querySelector(`output[for="${place.id}"]`);
      place.on("plotly_click", (event) => {
        const data = event.points[0].customdata;
        const text = Array.isArray(data) ? data[0] : data;
        if (text === undefined || text === null) return;
        picked.textContent = String(text);
        picked.hidden = false;
      });
    });
  };

  const places = [...document.querySelectorAll(".chart")];
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) {
        seen.unobserve(entry.target);
        draw(entry.target);
      }
    }
  }, { rootMargin: "600px" });
  document.addEventListener("DOMContentLoaded", () => places.forEach((place) => seen.observe(place)));
  if (document.readyState !== "loading") places.forEach((place) => seen.observe(place));
  document.addEventListener("ground", () => drawn.forEach((_, place) => draw(place)));
  addEventListener("beforeprint", () => places.forEach((place) => place.offsetParent && draw(place)));
})();
