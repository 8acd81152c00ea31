/** The parts of the media library that the page uses: loaded apart from the page, so that it shows at once. */

import { LogLevel, setLogLevel } from "livekit-client";

setLogLevel(LogLevel.warn);

export { DisconnectReason, LocalAudioTrack, Room, RoomEvent, Track, TrackEvent } from "livekit-client";
