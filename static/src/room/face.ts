/**
 * The agent's moving face over its portrait: it appears with its first picture and goes when pictures stop coming.
 *
 * The portrait stays below all the time, in the very same box, so that nothing jumps and nothing is ever blank.
 */

import type { RemoteTrack } from "livekit-client";

/** No new picture for so long: the face is frozen, and the portrait is the better sight. */
export const FROZEN_MS = 2_000;
const LOOK_MS = 250;
const FADE_MS = 400;

/** What `FrameWatch` needs of a video: somebody tells it of every picture. */
export class FrameWatch {
  private last = Number.NEGATIVE_INFINITY;
  private moving = false;

  constructor(private readonly onChange: (moving: boolean) => void) {}

  /** A picture is on the screen. */
  frame(now: number): void {
    this.last = now;
    this.set(true);
  }

  /** To be asked now and then. A page that nobody sees gets no pictures, which says nothing about the face. */
  look(now: number, seen: boolean): void {
    if (!seen) this.last = Math.max(this.last, now);
    else if (now - this.last > FROZEN_MS) this.set(false);
  }

  stop(): void {
    this.last = Number.NEGATIVE_INFINITY;
    this.set(false);
  }

  private set(moving: boolean): void {
    if (moving === this.moving) return;
    this.moving = moving;
    this.onChange(moving);
  }
}

export class MovingFace {
  private track: RemoteTrack | null = null;
  private timer: ReturnType<typeof setInterval> | undefined;
  private watch = new FrameWatch((moving) => this.show(moving));

  constructor(
    private readonly video: HTMLVideoElement,
    private readonly face: HTMLElement,
  ) {}

  /** The face's video, or null when there is none (any more). */
  use(track: RemoteTrack | null): void {
    if (track === this.track) return;
    this.leave();
    this.track = track;
    if (!track) return;
    track.attach(this.video);
    this.follow(track);
    this.timer = setInterval(
      () => this.watch.look(performance.now(), !document.hidden || document.pictureInPictureElement === this.video),
      LOOK_MS,
    );
  }

  private follow(track: RemoteTrack): void {
    if (this.track !== track) return;
    if (typeof this.video.requestVideoFrameCallback === "function") {
      this.video.requestVideoFrameCallback(() => {
        if (this.track !== track) return;
        this.watch.frame(performance.now());
        this.follow(track);
      });
      return;
    }
    // Browsers without it say several times a second how far the video has come.
    const { video } = this;
    const came = (): void => {
      if (this.track === track) this.watch.frame(performance.now());
      else video.removeEventListener("timeupdate", came);
    };
    video.addEventListener("timeupdate", came);
  }

  private leave(): void {
    clearInterval(this.timer);
    const { track } = this;
    this.track = null;
    if ("moving" in this.face.dataset) this.keepLastPicture();
    this.watch.stop();
    track?.detach(this.video);
  }

  private show(moving: boolean): void {
    this.face.toggleAttribute("data-moving", moving);
    if (moving) this.video.removeAttribute("aria-hidden");
    else this.video.setAttribute("aria-hidden", "true");
  }

  /** A video without its track is empty at once: a copy of its last picture fades in its place. */
  private keepLastPicture(): void {
    const { videoWidth, videoHeight } = this.video;
    if (!videoWidth || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    const copy = document.createElement("canvas");
    copy.className = "portrait last";
    copy.ariaHidden = "true";
    copy.width = videoWidth;
    copy.height = videoHeight;
    copy.getContext("2d")?.drawImage(this.video, 0, 0);
    this.video.after(copy);
    const gone = copy.animate({ opacity: [1, 0] }, { duration: FADE_MS, easing: "ease" });
    gone.onfinish = gone.oncancel = () => copy.remove();
  }
}
