package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Where is how much of a group's memory is where, in bytes.
type Where struct {
	// Resident is what the group has in RAM, SwapCached what of it is in swap too and has only not been let go of yet.
	Resident, SwapCached int64
	// Shmem is what of it are files in memory: in a sandbox, the guest's memory.
	Shmem int64
	// Swapped is what it has in swap.
	Swapped int64
}

// Where the memory of a group is; of one that does not exist, nothing is anywhere.
func (g Group) Where() (Where, error) {
	at := func(file string) string { return filepath.Join(g.Path("memory"), file) }
	usage := "memory.usage_in_bytes"
	if g.h.v2 {
		usage = "memory.current"
	}
	resident, err := readNumber(at(usage))
	if err != nil {
		return Where{}, err
	}
	cached, err := readKey(at("memory.stat"), "swapcached")
	if err != nil {
		return Where{}, err
	}
	shmem, err := readKey(at("memory.stat"), "shmem")
	if err != nil {
		return Where{}, err
	}
	swapped, err := g.swapped()
	return Where{Resident: resident, SwapCached: cached, Shmem: shmem, Swapped: swapped}, err
}

func (g Group) swapped() (int64, error) {
	if g.h.v2 {
		return readNumber(filepath.Join(g.Path(""), "memory.swap.current"))
	}
	return readKey(filepath.Join(g.Path("memory"), "memory.stat"), "swap")
}

// Bounds are the limits that a page-out changes, as they are: file name to value.
type Bounds map[string]string

// MemoryBounds are what PutBack takes.
func (g Group) MemoryBounds() (Bounds, error) {
	files := []string{"memory.limit_in_bytes", "memory.swappiness"}
	if g.h.v2 {
		files = []string{"memory.swap.max"}
	}
	bounds := Bounds{}
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(g.Path("memory"), file))
		if g.h.v2 && errors.Is(err, os.ErrNotExist) {
			continue // This kernel does not account for swap, so it does not bound it.
		}
		if err != nil {
			return nil, fmt.Errorf("reading the limits of cgroup %s: %w", g.name, err)
		}
		bounds[file] = strings.TrimSpace(string(text))
	}
	return bounds, nil
}

// PutBack sets limits to what they were.
func (g Group) PutBack(bounds Bounds) error {
	for file, value := range bounds {
		if err := (setting{filepath.Join(g.Path("memory"), file), value, false}).apply(); err != nil {
			return err
		}
	}
	return nil
}

// PreferSwap lets the group's memory go to swap, and on v1, where it always may, rather than pages of files.
func (g Group) PreferSwap(bounds Bounds) error {
	for file, value := range map[string]string{"memory.swap.max": "max", "memory.swappiness": "200"} {
		if _, is := bounds[file]; !is {
			continue
		}
		if err := (setting{filepath.Join(g.Path("memory"), file), value, false}).apply(); err != nil {
			return err
		}
	}
	return nil
}

// SqueezeTo has the kernel let go of what the group can best do without, until it has no more than bytes in RAM. False: it
// found nothing more to let go of. v1 lowers the limit only once the group is below it, so nothing is ever killed for it.
func (g Group) SqueezeTo(bytes int64) (bool, error) {
	file, value := "memory.limit_in_bytes", bytes
	if g.h.v2 {
		where, err := g.Where()
		if err != nil || where.Resident <= bytes {
			return err == nil, err
		}
		file, value = "memory.reclaim", where.Resident-bytes
	}
	err := writeExisting(filepath.Join(g.Path("memory"), file), strconv.FormatInt(value, 10))
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EAGAIN), errors.Is(err, os.ErrNotExist) && g.h.v2:
		return false, nil // Kernels before 5.19 have no memory.reclaim.
	}
	return false, fmt.Errorf("squeezing cgroup %s: %w", g.name, err)
}
