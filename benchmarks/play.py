"""The page `play` in headless Chromium: how long a stroke of the pen takes until all of its answer is drawn."""

import tempfile
import threading
from pathlib import Path
from statistics import median

import click

from benchmarks.browser import chromium
from benchmarks.harness import Bench, Comparison, Samples, benchmark
from cnnzoo.play.server import HOST, listening

STROKES = """
const done = arguments[arguments.length - 1];
const pad = document.querySelector(".ink");
pad.setPointerCapture = () => {};
pad.hasPointerCapture = () => true;
const { left, top, width } = pad.getBoundingClientRect();
const move = (name, x, y) =>
  pad.dispatchEvent(new PointerEvent(name, { pointerId: 1, clientX: left + x * width, clientY: top + y * width }));
const [times, frames] = [[], []];
let last = performance.now();
move("pointerdown", 0.3, 0.2);
const next = () => {
  const now = performance.now();
  frames.push(now - last);
  last = now;
  times.push(Number(document.getElementById("time").dataset.ms));
  const i = times.length;
  if (i > arguments[0]) {
    move("pointerup", 0.5, 0.5);
    done([times.slice(-arguments[0]), frames.slice(-arguments[0])]);
    return;
  }
  move("pointermove", 0.5 + 0.3 * Math.sin(i / 9), 0.5 - 0.35 * Math.cos(i / 13));
  requestAnimationFrame(next);
};
requestAnimationFrame(next);
"""


@benchmark(repeats=None, min_time=None)
@click.option("--strokes", default=200, show_default=True, type=click.IntRange(min=10), help="Movements of the pen.")
def play(bench: Bench, strokes: int) -> None:
    """A stroke on the page `play`: both LeNet-5s, every layer, computed and drawn."""
    with listening(0) as server, tempfile.TemporaryDirectory() as profile:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with chromium(Path(profile)) as driver:
                driver.set_window_size(1360, 1000)
                driver.set_script_timeout(120)
                driver.get(f"http://{HOST}:{server.server_port}/play/")
                driver.execute_async_script(
                    "const done = arguments[0]; const id = setInterval(() => document.body.dataset.ready &&"
                    " (clearInterval(id), done()), 20)"
                )
                times, frames = driver.execute_async_script(STROKES, strokes)
        except LookupError as error:
            raise click.ClickException(str(error)) from None
        finally:
            server.shutdown()
    seconds = {"computed and drawn": times, "from frame to frame": frames}
    samples = {name: Samples(tuple(one / 1000 for one in values)) for name, values in seconds.items()}
    bench.comparisons.append(Comparison("a stroke", "from frame to frame", samples))
    bench.target("a stroke", median(times), at_most=16, unit=" ms")
