/** The visitor's requests. Every one has a deadline, and every failure is an `ApiError` with a code the page can word. */

export interface Started {
  session: { id: string; state: string };
  room_name: string;
  server_url: string;
  participant_token: string;
  ws_path: string;
}

export type TranscriptFormat = "txt" | "vtt" | "json";

export class ApiError extends Error {
  constructor(
    readonly code: string,
    readonly status: number,
    detail: string,
  ) {
    super(detail);
  }
}

/** A server that has not answered by then stands still: the visitor is told, and may try again. */
const DEADLINE_MS = 8_000;
const END_TRIES = 4;
/** A conversation opens a room on the media server first; meanwhile the page says that it takes long. */
const START_DEADLINE_MS = 20_000;

export class Api {
  constructor(
    private readonly startUrl: string,
    private readonly link: string,
    private readonly csrfToken: string,
  ) {}

  async start(name: string): Promise<Started> {
    return this.enter(name ? { name } : {});
  }

  /** A new token for a session that this browser already owns. */
  async resume(sessionId: string): Promise<Started> {
    return this.enter({ resume: sessionId });
  }

  private async enter(body: object): Promise<Started> {
    return this.json(await this.send("POST", this.startUrl, body, { deadline: START_DEADLINE_MS }));
  }

  /** `keepalive` lets the request outlive the page when the visitor closes it right after pressing Leave. */
  async end(sessionId: string): Promise<void> {
    await this.send("POST", `${this.base(sessionId)}end`, {}, { keepalive: true });
  }

  /** Whether the server knows now that it is over. It also notices by itself that a visitor has gone, only later; so a few
   * tries are enough. */
  async endSurely(sessionId: string): Promise<boolean> {
    for (let attempt = 0; attempt < END_TRIES; attempt += 1) {
      try {
        await this.end(sessionId);
        return true;
      } catch (error) {
        const status = error instanceof ApiError ? error.status : 0;
        if (status === 404 || status === 410) return true; // there is no such conversation any more
        if (status >= 400 && status < 500) return false;
        await new Promise((resolve) => setTimeout(resolve, 1_000 * (attempt + 1)));
      }
    }
    return false;
  }

  /** A line of the same id counts once, however often it is sent. */
  async say(sessionId: string, text: string, id: string): Promise<void> {
    await this.send("POST", `${this.base(sessionId)}say`, { text, id });
  }

  async erase(sessionId: string): Promise<void> {
    await this.send("DELETE", this.base(sessionId));
  }

  transcriptUrl(sessionId: string, format: TranscriptFormat): string {
    return `${this.base(sessionId)}transcript?format=${format}`;
  }

  /** The conversation's own page, once it is over. */
  summaryUrl(sessionId: string): string {
    return `${this.base(sessionId)}summary`;
  }

  private base(sessionId: string): string {
    return `/r/${encodeURIComponent(this.link)}/sessions/${encodeURIComponent(sessionId)}/`;
  }

  private async send(
    method: string,
    url: string,
    body?: object,
    { keepalive = false, deadline = DEADLINE_MS } = {},
  ): Promise<Response> {
    const headers: Record<string, string> = { "X-CSRFToken": this.csrfToken, Accept: "application/json" };
    if (body) headers["Content-Type"] = "application/json";
    let response: Response;
    try {
      response = await fetch(url, {
        method,
        headers,
        body: body ? JSON.stringify(body) : null,
        credentials: "same-origin",
        keepalive,
        signal: AbortSignal.timeout(deadline),
      });
    } catch (error) {
      const late = error instanceof DOMException && error.name === "TimeoutError";
      throw new ApiError(late ? "timeout" : "network", 0, String(error));
    }
    if (!response.ok) throw await toError(response);
    return response;
  }

  private async json(response: Response): Promise<Started> {
    try {
      return (await response.json()) as Started;
    } catch (error) {
      throw new ApiError("unavailable", response.status, String(error));
    }
  }
}

const codeOfStatus: Record<number, string> = {
  403: "csrf",
  404: "not_found",
  410: "session_ended",
  429: "throttled",
  503: "unavailable",
};

async function toError(response: Response): Promise<ApiError> {
  const fallback = codeOfStatus[response.status] ?? "unavailable";
  try {
    const body = (await response.json()) as { errors?: { code?: string; detail?: string }[] };
    const first = body.errors?.[0];
    return new ApiError(first?.code ?? fallback, response.status, first?.detail ?? "");
  } catch {
    return new ApiError(fallback, response.status, "");
  }
}
