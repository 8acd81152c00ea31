/**
 * What this page sees to at its peer connections themselves, whatever library makes them: that they ask nobody but whom
 * the operator chose, and that a silence on them is known at once.
 */

/** Those of this page that may still be open. */
const made = new Set<RTCPeerConnection>();

/** The media server may name STUN servers of others, which would learn who talks here. Relays (TURN) are its own part. */
export function onlyOurs(config: RTCConfiguration, stunServers: readonly string[]): RTCConfiguration {
  const relays = (config.iceServers ?? [])
    .map((server) => ({ ...server, urls: [server.urls].flat().filter((url) => !/^stuns?:/i.test(url)) }))
    .filter((server) => server.urls.length > 0);
  const own = stunServers.length ? [{ urls: stunServers.map((address) => `stun:${address}`) }] : [];
  return { ...config, iceServers: [...own, ...relays] };
}

/** From now on, for every peer connection of this page. `onChange` is called when one stalls or moves again. */
export function keepPeers(stunServers: readonly string[], onChange: () => void = () => {}): void {
  const Plain = window.RTCPeerConnection;
  if (!Plain) return; // the library says so in its own words
  window.RTCPeerConnection = class extends Plain {
    constructor(config: RTCConfiguration = {}) {
      super(onlyOurs(config, stunServers));
      made.add(this);
      this.addEventListener("connectionstatechange", onChange);
    }

    override setConfiguration(config: RTCConfiguration = {}): void {
      super.setConfiguration(onlyOurs(config, stunServers));
    }

    override close(): void {
      made.delete(this);
      super.close();
    }
  };
}

/** Whether nothing has come through one of them for some seconds. */
export function somethingStalls(): boolean {
  return [...made].some((peer) => peer.connectionState === "disconnected" || peer.connectionState === "failed");
}
