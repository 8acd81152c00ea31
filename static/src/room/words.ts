/** What the page says about where a conversation stands and why it is over. */

import type { EndReason } from "../shared/events.ts";
import { t } from "../shared/i18n.ts";
import type { Chip } from "./facts.ts";
import type { Surroundings } from "./frame.ts";
import type { Blocked, State } from "./state.ts";

export function chipWords(value: Chip, agentName: string): string {
  const words: Record<Chip, string> = {
    connecting: t("Connecting"),
    waiting: t("Waiting for {name}", { name: agentName }),
    listening: t("Listening"),
    thinking: t("Thinking"),
    speaking: t("Speaking"),
    late: t("{name} is late", { name: agentName }),
    lost: t("{name} dropped out", { name: agentName }),
    reconnecting: t("Reconnecting"),
    elsewhere: t("In another tab"),
    ended: t("Ended"),
  };
  return words[value];
}

/** Title and text. */
export function blockedWords(blocked: Blocked, around: Surroundings): [string, string] {
  const words: Record<Blocked, [string, string]> = {
    expired: [t("This link has expired"), t("Ask whoever sent it to you for a new one.")],
    revoked: [t("This link is no longer in use"), t("It was withdrawn. Ask whoever sent it to you for a new one.")],
    sandboxed: sandboxWords(around),
    over: [t("That conversation has ended"), t("Ask whoever sent you the link for a new one.")],
    claimed: [
      t("This conversation is already open in another browser"),
      t("Go on there, or ask whoever sent you the link for a new one."),
    ],
    gone: [
      t("There is nothing here"),
      t("This link leads nowhere. Check that you have all of it, or ask for a new one."),
    ],
  };
  return words[blocked];
}

function sandboxWords({ framed, missing }: Surroundings): [string, string] {
  const permissions = missing.join(", ");
  return framed
    ? [
        t("The page around holds this one back"),
        t("Its frame has a sandbox without {permissions}. Whoever made that page can add what is missing.", {
          permissions,
        }),
      ]
    : [
        t("This site holds its own page back"),
        t(
          "Its Content-Security-Policy has a sandbox without {permissions}. Whoever runs the site can add what is missing.",
          {
            permissions,
          },
        ),
      ];
}

export const foreignWords = (): string =>
  t("This conversation belongs to another browser, or is no longer kept. You can start a new one.");

/** Whether it ended because something did not work. */
export const isTrouble = (reason: EndReason | null): boolean =>
  reason === "no_agent" || reason === "agent_lost" || reason === "error";

export const unheardWords = (): string =>
  t("The server could not be told. The conversation may run on there for a short while, without you.");

export function endTitle(state: State): string {
  if (state.foreign) return t("Not yours to open");
  if (state.unheard) return t("You have left");
  if (isTrouble(state.reason) || state.sessionState === "failed") return t("Sorry about that");
  return state.reason === "ended_by_user" ? t("Thank you for talking") : t("That is all for now");
}

export function endWords(reason: EndReason | null, agentName: string): string {
  switch (reason) {
    case "silence":
      return t("It ended because nobody spoke for a while.");
    case "time_limit":
      return t("The time for this conversation was up.");
    case "no_agent":
      return t("{name} could not join. Please try again in a moment.", { name: agentName });
    case "agent_lost":
      return t("{name} dropped out and could not be brought back. Please try again in a moment.", { name: agentName });
    case "budget":
      return t("The budget for conversations is used up for now.");
    case "error":
      return t("Something went wrong on our side. Please try again in a moment.");
    case "ended_by_api":
      return t("It was ended by the host.");
    case "visitor_left":
      return t("Your connection was away for too long, so it ended. What was said is kept; you can talk again.");
    case "ended_by_user":
    case null:
      return "";
  }
}
