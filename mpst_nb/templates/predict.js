// The 3D skeleton that turns, and plays with the film of the views if there is one. P: poses (frame, joint, [x, y, z] or null), bones, colours, frames, fps, origin, floor; mm, z up.
const canvas = document.getElementById('skeleton'), g = canvas.getContext('2d');
const slider = document.getElementById('frame'), label = document.getElementById('time'), button = document.getElementById('play');
let film = document.querySelector('video');      // none: the skeleton plays by itself
if (film) film.onerror = () => { film = null };
let turn = .7, tilt = .25, zoom = .19, now = 0, playing = false, last = 0;
slider.max = P.poses.length - 1;

function at(p) {                       // a point of the world on the canvas
  const x = p[0] - P.origin[0], y = p[1] - P.origin[1], h = p[2] - P.origin[2];
  const across = x * Math.cos(turn) + y * Math.sin(turn), away = -x * Math.sin(turn) + y * Math.cos(turn);
  return [canvas.width / 2 + zoom * across, canvas.height / 2 - zoom * (h * Math.cos(tilt) - away * Math.sin(tilt))];
}
function line(a, b, colour, width) {
  const [m, n] = [at(a), at(b)];
  g.strokeStyle = colour; g.lineWidth = width; g.beginPath(); g.moveTo(...m); g.lineTo(...n); g.stroke();
}
function floor() {                     // a grid of half metres below the person
  const x = Math.round(P.origin[0] / 500) * 500, y = Math.round(P.origin[1] / 500) * 500, r = 2000;
  for (let k = -4; k <= 4; k++) {
    line([x + k * 500, y - r, P.floor], [x + k * 500, y + r, P.floor], '#d5d5d0', 1);
    line([x - r, y + k * 500, P.floor], [x + r, y + k * 500, P.floor], '#d5d5d0', 1);
  }
}
function draw() {
  const pose = P.poses[now];
  g.clearRect(0, 0, canvas.width, canvas.height); floor();
  P.bones.forEach(([a, b], k) => { if (pose[a] && pose[b]) line(pose[a], pose[b], P.colours[k], 5) });
  g.fillStyle = '#333';
  pose.forEach(p => { if (p) { g.beginPath(); g.arc(...at(p), 3, 0, 7); g.fill() } });
  label.textContent = 'frame ' + P.frames[now] + '  (' + (P.frames[now] / P.fps).toFixed(2) + ' s)'; slider.value = now;
}
const apart = P.frames.length > 1 ? P.frames[1] - P.frames[0] : 1;      // video frames from one pose to the next
function show(k) { now = Math.max(0, Math.min(P.poses.length - 1, k)); draw() }
function follow() { const k = Math.floor(film.currentTime * P.fps / apart + 1e-3); if (k !== now) show(k) }
function step(t) {
  if (!playing) return;
  if (film) follow();
  else if (t - last > 1000 * apart / P.fps) { last = t; show((now + 1) % P.poses.length) }
  requestAnimationFrame(step);
}
slider.oninput = () => { show(+slider.value); if (film) film.currentTime = (P.frames[now] + .5) / P.fps };
button.onclick = () => {
  playing = !playing; button.textContent = playing ? 'stop' : 'play';
  if (film) { if (playing) film.play(); else { film.pause(); follow() } }
  if (playing) requestAnimationFrame(step);
};
canvas.onpointerdown = e => canvas.setPointerCapture(e.pointerId);
canvas.onpointermove = e => {
  if (!e.buttons) return;
  turn -= e.movementX * .01; tilt = Math.max(-1.5, Math.min(1.5, tilt + e.movementY * .01)); draw();
};
canvas.onwheel = e => { e.preventDefault(); zoom *= Math.exp(-e.deltaY * .001); draw() };
draw();
