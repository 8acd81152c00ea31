/** What the page says about where a conversation stands and why it is over. */

import type { EndReason } from "./events.ts";
import type { Blocked, Chip, State } from "./state.ts";

export function chipWords(value: Chip, agentName: string): string {
  const words: Record<Chip, string> = {
    connecting: "Connecting",
    waiting: `Waiting for ${agentName}`,
    listening: "Listening",
    thinking: "Thinking",
    speaking: "Speaking",
    late: `${agentName} is late`,
    lost: `${agentName} dropped out`,
    reconnecting: "Reconnecting",
    ended: "Ended",
  };
  return words[value];
}

export const blockedWords: Record<Blocked, [string, string]> = {
  expired: ["This link has expired", "Ask whoever sent it to you for a new one."],
  revoked: ["This link is no longer in use", "It was withdrawn. Ask whoever sent it to you for a new one."],
  gone: ["There is nothing here", "This link leads nowhere. Check that you have all of it, or ask for a new one."],
};

export const foreignWords =
  "This conversation belongs to another browser, or is no longer kept. You can start a new one.";

export function endTitle(state: State): string {
  if (state.foreign) return "Not yours to open";
  const trouble = state.reason === "no_agent" || state.reason === "agent_lost" || state.reason === "error";
  if (trouble || state.sessionState === "failed") return "Sorry about that";
  return state.reason === "ended_by_user" || state.reason === "visitor_left"
    ? "Thank you for talking"
    : "That is all for now";
}

export function endWords(reason: EndReason | null, agentName: string): string {
  switch (reason) {
    case "silence":
      return "It ended because nobody spoke for a while.";
    case "time_limit":
      return "The time for this conversation was up.";
    case "no_agent":
      return `${agentName} could not join. Please try again in a moment.`;
    case "agent_lost":
      return `${agentName} dropped out and could not be brought back. Please try again in a moment.`;
    case "budget":
      return "The budget for conversations is used up for now.";
    case "error":
      return "Something went wrong on our side. Please try again in a moment.";
    case "ended_by_api":
      return "It was ended by the host.";
    case "ended_by_user":
    case "visitor_left":
    case null:
      return "";
  }
}
