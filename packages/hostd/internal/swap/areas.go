package swap

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// AtRest is how readable what lies in an area is to whoever has the disk.
type AtRest string

const (
	Encrypted AtRest = "encrypted"
	// InMemory never reaches a disk.
	InMemory AtRest = "memory"
	Plain    AtRest = "plain"
	Unknown  AtRest = "unknown"
)

// Area is one that the kernel swaps to.
type Area struct {
	Kind    Kind   `json:"kind"`
	Device  string `json:"device"`
	SizeMib int64  `json:"sizeMib"`
	UsedMib int64  `json:"usedMib"`
	AtRest  AtRest `json:"atRest"`
}

// Areas are all that the kernel swaps to now.
func (p Place) Areas() ([]Area, error) {
	text, err := os.ReadFile("/proc/swaps")
	if err != nil {
		return nil, fmt.Errorf("reading what the host swaps to: %w", err)
	}
	ours, err := p.ours()
	if err != nil {
		return nil, err
	}
	areas := areasIn(string(text))
	for i := range areas {
		areas[i].AtRest = atRest("/sys", areas[i].Device)
		if ours != nil && sameDevice(areas[i].Device, ours.Device) {
			areas[i].Kind = ours.Kind
		}
	}
	return areas, nil
}

// areasIn reads /proc/swaps: file name, type, and sizes in KiB.
func areasIn(text string) []Area {
	areas := []Area{}
	for _, line := range strings.Split(text, "\n")[1:] {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		size, sizeErr := strconv.ParseInt(fields[2], 10, 64)
		used, usedErr := strconv.ParseInt(fields[3], 10, 64)
		if sizeErr == nil && usedErr == nil {
			areas = append(areas, Area{Kind: Host, Device: unescaped(fields[0]), SizeMib: size >> 10, UsedMib: used >> 10})
		}
	}
	return areas
}

// unescaped undoes how the kernel writes blanks.
func unescaped(name string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(name)
}

// devices that are swapped to, by the names the kernel has for them and by those that lead there.
func devices() (map[string]bool, error) {
	text, err := os.ReadFile("/proc/swaps")
	if err != nil {
		return nil, fmt.Errorf("reading what the host swaps to: %w", err)
	}
	out := map[string]bool{}
	for _, area := range areasIn(string(text)) {
		out[area.Device] = true
	}
	if len(out) > 0 {
		if mapped, err := filepath.EvalSymlinks("/dev/mapper/" + cryptName); err == nil && out[mapped] {
			out["/dev/mapper/"+cryptName] = true
		}
	}
	return out, nil
}

func sameDevice(a, b string) bool {
	if to, err := filepath.EvalSymlinks(b); err == nil && to == a {
		return true
	}
	return a == b
}

// atRest looks at what a device or file lies on, down to the hardware. What a disk does by itself cannot be seen.
func atRest(sys, device string) AtRest {
	var stat unix.Stat_t
	if unix.Stat(device, &stat) != nil {
		return Unknown
	}
	number := stat.Dev
	if stat.Mode&unix.S_IFMT == unix.S_IFBLK {
		number = stat.Rdev
	}
	return blockAtRest(sys, filepath.Join(sys, "dev/block", fmt.Sprintf("%d:%d", unix.Major(number), unix.Minor(number))))
}

// blockAtRest follows a block device's directory in sysfs to those it is made of: it is as readable as the most readable of them.
func blockAtRest(sys, link string) AtRest {
	directory, err := filepath.EvalSymlinks(link)
	if err != nil {
		return Unknown // Such as the made-up number of a file on btrfs or overlayfs.
	}
	if strings.HasPrefix(filepath.Base(directory), "zram") {
		backing, err := os.ReadFile(filepath.Join(directory, "backing_dev"))
		if err == nil && strings.TrimSpace(string(backing)) != "none" {
			return Unknown // It may write to another device.
		}
		return InMemory
	}
	if uuid, err := os.ReadFile(filepath.Join(directory, "dm/uuid")); err == nil && strings.HasPrefix(string(uuid), "CRYPT-") {
		return Encrypted
	}
	if backing, err := os.ReadFile(filepath.Join(directory, "loop/backing_file")); err == nil {
		return atRest(sys, strings.TrimSpace(string(backing)))
	}
	below, err := filepath.Glob(filepath.Join(directory, "slaves/*"))
	if err != nil || len(below) == 0 {
		return Plain
	}
	worst := Encrypted
	for _, one := range below {
		if found := blockAtRest(sys, one); worst != Plain && found != Encrypted {
			worst = found
		}
	}
	return worst
}
