/**
 * What a screen reader says about the conversation, besides the conversation.
 *
 * The agent's lines are not read out: they are heard already, and a second voice over the first would drown both. (The
 * transcript is a log that can be read at any time.) For the same reason news that can wait, such as "Captions are
 * large", waits until the agent has finished speaking. Trouble does not wait: with it, there is often no voice to drown.
 */

/** Good news that is older than this is no news. */
const KEEP_MS = 15_000;

export interface Clock {
  now(): number;
}

export class Announcer {
  private waiting: { text: string; at: number }[] = [];
  private speaking = false;

  constructor(
    private readonly show: (text: string, urgent: boolean) => void,
    private readonly clock: Clock = Date,
  ) {}

  /** Something to know at once. What was waiting is old by then. */
  interrupt(text: string): void {
    this.waiting = [];
    this.show(text, true);
  }

  /** Something to know when there is a pause. The latest word on it is enough. */
  tell(text: string): void {
    if (this.speaking) this.waiting = [{ text, at: this.clock.now() }];
    else this.show(text, false);
  }

  agentSpeaks(speaking: boolean): void {
    if (this.speaking === speaking) return;
    this.speaking = speaking;
    if (speaking) return;
    const fresh = this.waiting.filter((item) => this.clock.now() - item.at < KEEP_MS);
    this.waiting = [];
    for (const item of fresh) this.show(item.text, false);
  }
}
