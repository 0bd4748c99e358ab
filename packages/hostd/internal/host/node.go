package host

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"torpor.dev/hostd/internal/disk"
	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/network"
	"torpor.dev/hostd/internal/swap"
	"torpor.dev/hostd/internal/wire"
)

type nodeArgs struct {
	Pool      disk.Size `json:"pool"`
	Subnet    string    `json:"subnet"`
	HostPorts struct {
		GuestToHost []int `json:"guestToHost"`
	} `json:"hostPorts"`
	DNS struct {
		ListenPort int `json:"listenPort"`
	} `json:"dns"`
	Egress egressArgs `json:"egress"`
	Swap   swap.Ask   `json:"swap"`
	Limits struct {
		BandwidthMbit int `json:"bandwidthMbit"`
		Connections   int `json:"connections"`
	} `json:"limits"`
}

type egressArgs struct {
	Allow []network.Opening `json:"allow"`
}

func (n nodeArgs) rules() (network.Rules, error) {
	subnet, err := names.ParseSubnet(n.Subnet)
	if err != nil {
		return network.Rules{}, wire.Errorf(wire.BadRequest, "%w", err)
	}
	if n.Limits.BandwidthMbit < 0 || n.Limits.Connections < 0 || n.DNS.ListenPort < 0 || n.DNS.ListenPort > 65535 {
		return network.Rules{}, wire.Errorf(wire.BadRequest, "limits and ports must not be negative")
	}
	return network.Rules{
		Subnet: subnet, GuestToHost: n.HostPorts.GuestToHost, DNSPort: n.DNS.ListenPort, Allow: n.Egress.Allow,
		BandwidthMbit: n.Limits.BandwidthMbit, Connections: n.Limits.Connections,
	}, nil
}

func (h *Host) hello(_ context.Context, args struct {
	Protocol int `json:"protocol"`
}) (any, error) {
	if args.Protocol != wire.Version {
		return nil, wire.Errorf(wire.Unsupported, "protocol %d is not spoken here, %d is", args.Protocol, wire.Version)
	}
	return map[string]any{
		"protocol": wire.Version, "scope": h.Scope, "pid": os.Getpid(), "startedAtMs": h.started.UnixMilli(),
		"runsc":  map[string]string{"path": h.Runsc, "version": h.RunscVersion},
		"cgroup": h.groups.Version(), "kernel": kernelRelease(), "controllers": h.groups.Controllers(),
	}, nil
}

func (h *Host) prepare(ctx context.Context, args nodeArgs) (any, error) {
	rules, err := args.rules()
	if err != nil {
		return nil, err
	}
	if err := args.Swap.Refuse(); err != nil {
		return nil, err
	}
	held, err := h.locks.Take(ctx, "node")
	if err != nil {
		return nil, err
	}
	defer held.Release()
	pool, created, err := disk.Prepare(ctx, h.Paths, args.Pool)
	if err != nil {
		return nil, err
	}
	net, err := network.Prepare(ctx, h.Scope, rules)
	if err != nil {
		return nil, err
	}
	swapTrouble := h.joinSwap(ctx, args.Swap)
	if err := h.remember(&args); err != nil {
		return nil, err
	}
	h.mutex.Lock()
	h.pool, h.net, h.node = pool, net, &args
	h.mutex.Unlock()
	space, err := pool.Space()
	if err != nil {
		return nil, err
	}
	if created == nil {
		created = []string{}
	}
	return map[string]any{
		"pool": map[string]int64{"totalMib": space.TotalMib, "freeMib": space.FreeMib}, "created": created, "swapTrouble": swapTrouble,
	}, nil
}

func (h *Host) remember(node *nodeArgs) error {
	text, err := json.Marshal(node)
	if err != nil {
		return err
	}
	if err := writeWhole(h.Paths.NodeFile(), text); err != nil {
		return fmt.Errorf("writing what the node is prepared as: %w", err)
	}
	return nil
}

func (h *Host) usage(context.Context, struct{}) (any, error) {
	pool, _, err := h.prepared()
	if err != nil {
		return nil, err
	}
	space, err := pool.Space()
	if err != nil {
		return nil, err
	}
	images, err := pool.ImagesMib()
	if err != nil {
		return nil, err
	}
	memory, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return nil, fmt.Errorf("reading the host's memory: %w", err)
	}
	areas, err := swap.Shared.Areas()
	if err != nil {
		return nil, err
	}
	mib := func(key string) int64 { return meminfoMib(string(memory), key) }
	return map[string]any{
		"pool":   map[string]int64{"totalMib": space.TotalMib, "usedMib": space.UsedMib, "freeMib": space.FreeMib, "reserveMib": space.ReserveMib, "imagesMib": images},
		"memory": map[string]any{"totalMib": mib("MemTotal"), "availableMib": mib("MemAvailable"), "pressure": pressure()},
		"swap":   map[string]any{"totalMib": mib("SwapTotal"), "freeMib": mib("SwapFree"), "areas": areas},
	}, nil
}

// pressure is the share of the last ten seconds in which some process waited for memory; 0 where the kernel does not tell.
func pressure() float64 {
	text, err := os.ReadFile("/proc/pressure/memory")
	if err != nil {
		return 0
	}
	return pressureIn(string(text))
}

func pressureIn(text string) float64 {
	var percent float64
	if _, err := fmt.Sscanf(text, "some avg10=%f", &percent); err != nil {
		return 0
	}
	return percent / 100
}

func meminfoMib(text, key string) int64 {
	for _, line := range strings.Split(text, "\n") {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			var kib int64
			if _, err := fmt.Sscan(rest, &kib); err == nil {
				return kib >> 10
			}
		}
	}
	return 0
}

func (h *Host) setEgress(ctx context.Context, args egressArgs) (any, error) {
	held, err := h.locks.Take(ctx, "node")
	if err != nil {
		return nil, err
	}
	defer held.Release()
	_, net, err := h.prepared()
	if err != nil {
		return nil, err
	}
	if err := net.SetAllowed(ctx, args.Allow); err != nil {
		return nil, err
	}
	h.mutex.RLock()
	node := *h.node
	h.mutex.RUnlock()
	node.Egress = args
	if err := h.remember(&node); err != nil {
		return nil, err
	}
	h.mutex.Lock()
	h.node = &node
	h.mutex.Unlock()
	return done{}, nil
}

func (h *Host) inventory(context.Context, struct{}) (any, error) {
	traces, err := h.sandboxes.Traces()
	if err != nil {
		return nil, err
	}
	disks, err := disk.Disks(h.Paths)
	if err != nil {
		return nil, err
	}
	namespaces, err := network.Namespaces(h.Scope)
	if err != nil {
		return nil, err
	}
	veths, err := network.Veths(h.Scope)
	if err != nil {
		return nil, err
	}
	elements, err := network.Elements(h.Scope)
	if err != nil {
		return nil, err
	}
	images, snapshots, err := disk.Kept(h.Paths)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"images": images, "snapshots": snapshots,
		"sandboxes": traces.Records, "bundles": traces.Bundles, "mounts": traces.Mounts, "cgroups": traces.Cgroups,
		"disks": orEmpty(disks), "netns": namespaces, "veths": veths, "netElements": elements,
	}, nil
}

func orEmpty(ids []names.ID) []names.ID {
	if ids == nil {
		return []names.ID{}
	}
	return ids
}
