package netfarm

import (
	"context"
	"fmt"
)

// tbfBurst is the least that does not make tbf split large packets, which costs much CPU time.
const tbfBurst = 256 << 10

// A Link is how a host is joined to the switch. The zero value is as fast as the machine.
type Link struct {
	// Rate is in bits a second, the same in both directions; 0: no limit.
	Rate int64
}

func (f *Farm) switchNamespace() string { return f.name + "-switch" }

// makeSwitch makes the bridge, in a namespace of its own: an engine that runs elsewhere on the machine may have told
// the machine's own bridges to drop what they forward.
func (f *Farm) makeSwitch(ctx context.Context) error {
	if err := addNamespace(ctx, f.switchNamespace()); err != nil {
		return err
	}
	return ip(ctx, f.switchNamespace(), "link add switch type bridge", "link set switch up")
}

// join makes the host's cable: eth0 at its end, a port at the switch's.
func (h *Host) join(ctx context.Context, link Link) error {
	switchNamespace := h.farm.switchNamespace()
	err := ip(ctx, switchNamespace,
		fmt.Sprintf("link add %s type veth peer name eth0 netns %s", h.port, h.namespace),
		fmt.Sprintf("link set %s master switch up", h.port))
	if err != nil {
		return err
	}
	err = ip(ctx, h.namespace,
		fmt.Sprintf("addr add %s/%d dev eth0", h.addr, addressBits),
		"link set eth0 up")
	if err != nil || link.Rate == 0 {
		return err
	}
	return h.Shape(ctx, link)
}

// Shape changes the link from now on.
func (h *Host) Shape(ctx context.Context, link Link) error {
	for _, end := range [][2]string{{h.namespace, "eth0"}, {h.farm.switchNamespace(), h.port}} {
		args := []string{"tc", "-n", end[0], "qdisc", "del", "dev", end[1], "root"}
		if link.Rate > 0 {
			args = []string{
				"tc", "-n", end[0], "qdisc", "replace", "dev", end[1], "root", "tbf",
				"rate", fmt.Sprintf("%dbit", link.Rate), "burst", fmt.Sprint(tbfBurst), "latency", "50ms",
			}
		}
		if err := command(ctx, "", args...); err != nil {
			return fmt.Errorf("shape the link of %s: %w", h.name, err)
		}
	}
	return nil
}

// CutOff drops without a word whatever the host sends and whatever is sent to it. What runs on it goes on.
func (h *Host) CutOff(ctx context.Context) error { return h.setPort(ctx, "disabled") }

// Reconnect ends CutOff.
func (h *Host) Reconnect(ctx context.Context) error { return h.setPort(ctx, "forwarding") }

func (h *Host) setPort(ctx context.Context, state string) error {
	err := command(ctx, "", "bridge", "-n", h.farm.switchNamespace(), "link", "set", "dev", h.port, "state", state)
	if err != nil {
		return fmt.Errorf("set the link of %s to %s: %w", h.name, state, err)
	}
	return nil
}
