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

  // A phone has no room for the whole of a label over a bar: its layout is cut.
  const fitting = (text) => {
    const [, head, rest] = /^(<b>.*<\/b> +)(.*)$/.exec(text) || [];
    const room = Math.max(8, 50 - (head || "").length);
    return !narrow() || !rest || rest.length <= room ? text : head + rest.slice(0, room - 1) + "…";
  };

  // Merged by hand, since an axis of the figure keeps its own title, range and type.
  const dressed = (layout, has_axes) => {
    const ink = css("--ink"), faint = css("--line");
    const size = narrow() ? 12 : innerWidth < 1700 ? 14 : 17;
    const one = {
      ...layout,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size, color: ink },
      hoverlabel: { align: "left", bgcolor: css("--paper"), bordercolor: ink, font: { color: ink, size }, namelength: -1 },
      margin: { ...(has_axes ? { l: 8, r: narrow() ? 8 : 44, t: 16, b: 8 } : { l: 64, r: 64, t: 48, b: 24 }), ...(layout.margin || {}) },
      modebar: { orientation: "v", bgcolor: "rgba(0,0,0,0)", color: css("--soft"), activecolor: ink },
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
    // Labels over bars hide the grid behind them.
    one.annotations = (layout.annotations || []).map((a) => ({
      ...(a.xref === "paper" ? { bgcolor: css("--paper"), borderpad: 0 } : {}),
      ...a, text: fitting(a.text), font: { color: ink, ...(a.font || {}) },
    }));
    return one;
  };

  // "ink" is the colour of text wherever a figure's data name it.
  const inked = (value, ink, key = "") => {
    if (Array.isArray(value)) return value.map((each) => inked(each, ink, key));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, inked(each, ink, name)]));
    }
    return value === "ink" && key.endsWith("color") ? ink : value;
  };

  // Points of charts with notes hold the number of their text.
  const read = new Map();
  const notes_of = (place) => {
    const name = place.dataset.notes;
    if (!name) return null;
    if (!read.has(name)) read.set(name, JSON.parse(document.getElementById(name).textContent));
    return read.get(name);
  };
  const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/\n/g, "<br>");
  const hovered = (notes, numbers) => Array.isArray(numbers)
    ? numbers.map((each) => hovered(notes, each))
    : Number.isInteger(numbers) ? escaped(notes.texts[numbers]) : "";
  const noted = (data, notes) => notes === null ? data : data.map((trace) => trace.customdata === undefined ? trace : {
    ...trace, hovertext: hovered(notes, trace.customdata),
    hoverinfo: narrow() ? "none" : "text", // there a tap tells it below, where there is room
  });

  // Where there is little room, parallel coordinates have the first few axes and the last.
  const fewer = (data) => !narrow() ? data : data.map((trace) => trace.type !== "parcoords" ? trace : {
    ...trace, labelangle: -30, dimensions: [...trace.dimensions.slice(0, -1).slice(0, 3), ...trace.dimensions.slice(-1)],
  });

  const CARTESIAN = ["scatter", "scattergl", "bar", "box", "violin", "heatmap", "histogram", "waterfall", "contour"];
  const unwrapped = (text) => text.replace(/ ·\n\s*/g, " · "); // the panel has lines of its own
  const tell = (picked, text, notes) => {
    picked.replaceChildren(document.createTextNode(notes === null ? String(text) : unwrapped(notes.texts[text])));
    for (const line of notes === null || !notes.commands ? [] : notes.commands.split("\n")) {
      const command = document.createElement("code");
      command.textContent = Object.entries(notes.fields[text]).reduce((told, [key, value]) => told.replaceAll(`{${key}}`, value), line);
      picked.append(command);
    }
    picked.hidden = false;
  };

  const draw = (place) => {
    const figure = JSON.parse(document.getElementById(place.id.replace("chart", "figure")).textContent);
    const has_axes = figure.data.every((trace) => CARTESIAN.includes(trace.type || "scatter"));
    // Nothing of a page leaves it: plotly's own button would send the chart to its maker.
    const options = { responsive: true, displaylogo: false, scrollZoom: false, showSendToCloud: false, plotlyServerURL: "",
                      displayModeBar: narrow() ? false : "hover",
                      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
    const shown = Plotly.react(place, fewer(noted(inked(figure.data, css("--ink")), notes_of(place))), dressed(figure.layout, has_axes), options);
    if (drawn.has(place)) return shown;
    drawn.set(place, true);
    return shown.then(() => {
      place.dataset.drawn = "yes";
      const picked = document.querySelector(`output[for="${place.id}"]`);
      place.on("plotly_click", (event) => {
        const data = event.points[0].customdata;
        const text = Array.isArray(data) ? data[0] : data;
        if (text === undefined || text === null) return;
        tell(picked, text, notes_of(place));
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
  // Of charts of which one is shown at a time, what is picked in one list is picked in all of the same label.
  const lists = [...document.querySelectorAll("select[data-choice]")];
  const shows = (list, name) => {
    const at = [...list.options].findIndex((option) => option.textContent === name);
    if (at < 0) return;
    list.selectedIndex = at;
    const options = [...list.closest(".choice").children].filter((child) => child.matches(".option"));
    options.forEach((option, place) => { option.hidden = place !== at; });
  };
  for (const list of lists) {
    list.addEventListener("change", () => {
      const name = list.options[list.selectedIndex].textContent;
      lists.filter((other) => other.dataset.choice === list.dataset.choice).forEach((other) => shows(other, name));
    });
    shows(list, list.options[0].textContent); // browsers keep what was picked before a page is read again
  }
  document.addEventListener("ground", () => drawn.forEach((_, place) => draw(place)));
  addEventListener("beforeprint", () => places.forEach((place) => place.offsetParent && draw(place)));
})();
