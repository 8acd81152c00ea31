/** Listening to a voice with one's own text, with the settings as they stand in the form. */

const box = document.querySelector("[data-listen]");
if (box) setUp(box);

function setUp(box) {
  const button = box.querySelector("[data-listen-go]");
  const status = box.querySelector("[data-listen-status]");
  const audio = box.querySelector("[data-listen-audio]");
  const form = box.closest("form");
  let address = "";
  box.hidden = false;
  // What is typed here is no part of the voice.
  for (const name of ["input", "change"]) box.addEventListener(name, (event) => event.stopPropagation());

  button.addEventListener("click", async () => {
    const body = new FormData(form);
    body.set("text", box.querySelector("[data-listen-text]").value);
    body.set("language", box.querySelector("[data-listen-language]").value);
    if (box.dataset.voice) body.set("voice", box.dataset.voice);
    button.disabled = true;
    say("Speaking…", "m-help");
    const started = performance.now();
    try {
      const response = await fetch(box.dataset.url, { method: "POST", body, signal: AbortSignal.timeout(15_000) });
      if (!response.ok) throw new Error(await reason(response));
      const sound = await response.blob();
      say(`Spoken in ${((performance.now() - started) / 1000).toFixed(1)} s.`, "m-help");
      URL.revokeObjectURL(address);
      address = URL.createObjectURL(sound);
      audio.src = address;
      audio.hidden = false;
      await audio.play().catch(() => say("Press play to hear it.", "m-help"));
    } catch (error) {
      audio.hidden = true;
      say(error.name === "TimeoutError" ? "No answer within 15 s." : error.message, "m-error");
    } finally {
      button.disabled = false;
    }
  });

  function say(text, style) {
    status.textContent = text;
    status.className = style;
  }
}

async function reason(response) {
  try {
    return (await response.json()).errors[0].detail;
  } catch {
    return response.status === 403 ? "You may not listen to this. Sign in again." : "It could not be spoken.";
  }
}
