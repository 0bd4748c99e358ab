package sandbox

import (
	"math"

	"torpor.dev/hostd/internal/names"
)

// A sandbox's processor quota is for what runs in it. While it is made, saved or restored it is gVisor that works, for us,
// and somebody waits: under a quarter of a processor a shell took 300 ms, and not 70.

// hastyCpus are what it may have meanwhile. gVisor shows a guest as many processors as the quota is at its making, rounded
// up and two at the least, so that this changes nothing of what a tenant sees.
func hastyCpus(cpus float64) float64 { return max(2, math.Ceil(cpus)) }

// hasten lets it have them, until boundCpus.
func (s *Sandboxes) hasten(id names.ID) error {
	ask, err := s.asked(id)
	if err != nil {
		return err
	}
	return s.group(id).LimitCpus(hastyCpus(ask.Limits.Cpus))
}

// boundCpus puts the quota in force that was asked for.
func (s *Sandboxes) boundCpus(id names.ID) error {
	ask, err := s.asked(id)
	if err != nil {
		return err
	}
	return s.group(id).LimitCpus(ask.Limits.Cpus)
}
