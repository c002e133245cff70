"""The CSS and the JavaScript of the page."""

from __future__ import annotations

from farfield.server.gradio_compat import HIDDEN_STATUS, TRIM_BUTTON

CSS = """
.gradio-container { max-width: 1080px !important; margin: 0 auto !important }
.gradio-container h1 { font-size: 1.6rem; font-weight: 700; margin: 0.4rem 0 0 }
.gradio-container h2 { font-size: 1.2rem; font-weight: 700; margin: 1rem 0 0 }
footer { display: none !important }
.ff-note { margin: 0.3rem 0; font-size: 0.95rem; color: var(--body-text-color); overflow-wrap: anywhere }
.ff-failed { border-left: 4px solid #c0392b; padding: 0.4rem 0.7rem }
.ff-quiet { opacity: 0.75 }
.ff-bar { position: relative; height: 2.6rem; border-radius: 4px; overflow: hidden;
  background: var(--neutral-200, #e5e7eb) }
.ff-bar button { position: absolute; top: 0; height: 100%; padding: 0 0.3rem; border: 0; color: white;
  font-weight: 600; cursor: pointer; overflow: hidden; border-right: 1px solid white; text-align: left }
.ff-bar button span { white-space: nowrap; font-size: 0.85rem }
.ff-bar button:focus-visible { outline: 3px solid var(--body-text-color); outline-offset: -3px }
.ff-lanes button { border-bottom: 1px solid white; padding: 0 0.2rem; line-height: 1 }
.ff-lanes button span { font-size: 0.75rem }
.ff-playhead { position: absolute; top: 0; left: 0; width: 2px; height: 100%; background: black;
  box-shadow: 0 0 0 1px white; pointer-events: none }
.ff-ticks { position: relative; height: 1.3rem; font-size: 0.75rem; opacity: 0.75 }
.ff-ticks span { position: absolute; white-space: nowrap }
.ff-legend { display: flex; flex-wrap: wrap; gap: 0.2rem 1rem; list-style: none; padding: 0; margin: 0.2rem 0 0;
  font-size: 0.9rem }
.ff-swatch { display: inline-block; width: 0.8em; height: 0.8em; border-radius: 2px; margin-right: 0.35em }
.ff-ranking { width: 100%; border-collapse: collapse; font-size: 0.95rem }
.ff-ranking caption { text-align: left; font-weight: 600; padding-bottom: 0.3rem }
.ff-ranking th { text-align: left; font-weight: 400; padding: 0.25rem 0.6rem 0.25rem 0; overflow-wrap: anywhere }
.ff-ranking tr:first-child th, .ff-above th { font-weight: 600 }
.ff-below th { opacity: 0.75 }
.ff-below .ff-probability span { background: #6b7280 }
.ff-probability { width: 45% } .ff-probability span { display: block; height: 0.8rem; border-radius: 3px;
  background: #0072b2; min-width: 1px }
.ff-number { text-align: right; white-space: nowrap; padding-left: 0.6rem; font-variant-numeric: tabular-nums }
#video video { max-height: 22rem }
#picture img { cursor: crosshair }
.ff-scroll { overflow-x: auto; width: 0; min-width: 100% }
.ff-scroll img { width: 100%; min-width: 40rem; display: block }
"""
CSS += f"#video {TRIM_BUTTON} {{ display: none }}\n"
CSS += f"{HIDDEN_STATUS} {{ visibility: hidden }}\n"

FOLLOW_PLAYER = """
const player = () => document.querySelector("#video video");
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-seconds]");
  const video = player();
  if (button && video) video.currentTime = Number(button.dataset.seconds);
});
setInterval(() => {
  const head = element.querySelector(".ff-playhead");
  const video = player();
  if (head && video) head.style.left = Math.min(100 * video.currentTime / Number(head.dataset.duration), 100) + "%";
}, 100);
"""
"""Script of the timeline.

A click on a segment moves the video player to the start of the segment. A line shows the player's current time.
"""
