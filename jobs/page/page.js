// Takes the server's events in. What the server sends is HTML that it has escaped; no script within it would run.

const SILENT_MILLISECONDS = 10_000;
const AGAIN_MILLISECONDS = 5_000;
const statusLine = document.getElementById("status");
const clock = document.getElementById("at");
let source;
let watch;

// Changes only what differs: a reader, a selection and the focus stay where they are.
function update(old, fresh) {
  if (old.nodeName !== fresh.nodeName || old.childNodes.length !== fresh.childNodes.length) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const children = [...fresh.childNodes];
  [...old.childNodes].forEach((child, place) => update(child, children[place]));
}

function show(panels) {
  for (const [name, html] of Object.entries(panels)) {
    const section = document.getElementById(`panel-${name}`);
    if (!section) continue;
    const fresh = document.createElement("template");
    fresh.innerHTML = `<div class="content">${html}</div>`;
    update(section.querySelector(".content"), fresh.content.firstChild);
    section.hidden = html === "";
  }
}

// A screen reader says what changes here: only a change is written.
function say(text, isLive) {
  if (statusLine.textContent !== text) statusLine.textContent = text;
  const name = isLive ? "live" : "standing";
  if (statusLine.className !== name) statusLine.className = name;
}

function stand(why) {
  say(`${why} All numbers: as of ${clock.textContent.trim()} UTC. The page tries again by itself.`, false);
}

function awaitEvent() {
  clearTimeout(watch);
  watch = setTimeout(() => { stand("The page's server is silent."); follow(); }, SILENT_MILLISECONDS);
}

function follow() {
  if (source) source.close();
  source = new EventSource("live");
  awaitEvent();
  source.addEventListener("state", (event) => {
    const state = JSON.parse(event.data);
    show(state.panels);
    if (state.at) clock.textContent = state.at.slice(0, 19).replace("T", " ");
    say(state.status, state.is_live);
    awaitEvent();
  });
  source.addEventListener("error", () => {
    stand("The page's server does not answer.");
    // The browser tries again by itself, but not after an answer that is an error.
    if (source.readyState === EventSource.CLOSED) {
      clearTimeout(watch);
      watch = setTimeout(follow, AGAIN_MILLISECONDS);
    }
  });
}

document.getElementById("snapshot").remove();
follow();
