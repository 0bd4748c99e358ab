package swap

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"torpor.dev/hostd/internal/disk"
)

// makers make an area's device and write it down as they go, so that half of one can be removed.
var makers map[Kind]func(Place, *made, int64) error

func init() {
	makers = map[Kind]func(Place, *made, int64) error{Crypt: makeCrypt, Zram: makeZram, File: makeFile}
}

const zramControl = "/sys/class/zram-control"

func makeZram(p Place, area *made, bytes int64) error {
	if _, err := os.Stat(zramControl); err != nil {
		if said, err := exec.Command("modprobe", "zram", "num_devices=0").CombinedOutput(); err != nil {
			return fmt.Errorf("the kernel has no zram (%w: %s)", err, strings.TrimSpace(string(said)))
		}
	}
	number, err := os.ReadFile(filepath.Join(zramControl, "hot_add")) // Reading it makes a device.
	if err != nil {
		return fmt.Errorf("making a zram device: %w", err)
	}
	name := "zram" + strings.TrimSpace(string(number))
	area.Device, area.Below = "/dev/"+name, []string{"zram " + name}
	if err := p.remember(area); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join("/sys/block", name, "disksize"), []byte(strconv.FormatInt(bytes, 10)), 0); err != nil {
		return fmt.Errorf("setting the size of %s: %w", area.Device, err)
	}
	// What does not compress stays in RAM instead: the area may take a quarter of the host's at most, whatever lies in it.
	if err := os.WriteFile(filepath.Join("/sys/block", name, "mem_limit"), []byte(strconv.FormatInt(bytes/2, 10)), 0); err != nil {
		return fmt.Errorf("limiting what %s may take: %w", area.Device, err)
	}
	return writeHeader(area.Device, bytes)
}

func makeFile(p Place, area *made, bytes int64) error {
	area.Device = p.File
	if err := p.remember(area); err != nil {
		return err
	}
	if err := p.allocate(bytes); err != nil {
		return err
	}
	return writeHeader(area.Device, bytes)
}

// allocate gives the file all its blocks now: the kernel refuses to swap to one with holes.
func (p Place) allocate(bytes int64) error {
	if err := errors.Join(os.MkdirAll(filepath.Dir(p.File), 0o755), p.removeFile()); err != nil {
		return err
	}
	file, err := os.OpenFile(p.File, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("making the swap file: %w", err)
	}
	defer file.Close()
	const noCow = 0x00800000 // FS_NOCOW_FL: btrfs swaps to no other file. Elsewhere it is refused, and not needed.
	_ = unix.IoctlSetPointerInt(int(file.Fd()), unix.FS_IOC_SETFLAGS, noCow)
	if err := unix.Fallocate(int(file.Fd()), 0, 0, bytes); err != nil {
		return fmt.Errorf("allocating %d MiB for the swap file %s: %w", bytes>>20, p.File, err)
	}
	return nil
}

// cryptName is the device below /dev/mapper; one for the host.
const cryptName = "torpor-swap"

func makeCrypt(p Place, area *made, bytes int64) error {
	if err := hasCrypt(); err != nil {
		return err
	}
	area.Device, area.Below = "/dev/mapper/"+cryptName, []string{"crypt " + cryptName}
	if err := p.remember(area); err != nil {
		return err
	}
	if err := p.allocate(bytes); err != nil {
		return err
	}
	loop, err := disk.AttachLoop(p.File)
	if err != nil {
		return err
	}
	defer loop.Close() // The crypt device holds it open, and with that it goes.
	key := make([]byte, 64)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	create := exec.Command("dmsetup", "create", cryptName)
	create.Stdin = strings.NewReader(cryptTable(loop.Name(), bytes, key)) // Not as an argument, which others could read.
	if said, err := create.CombinedOutput(); err != nil {
		return fmt.Errorf("making the encrypted device: %w: %s", err, strings.TrimSpace(string(said)))
	}
	return writeHeader(area.Device, bytes)
}

func hasCrypt() error {
	if _, err := os.Stat("/dev/mapper/control"); err != nil {
		return errors.New("the kernel has no device-mapper")
	}
	_ = exec.Command("modprobe", "dm-crypt").Run() // It may be built in.
	targets, err := exec.Command("dmsetup", "targets").Output()
	if err != nil {
		return fmt.Errorf("asking dmsetup for its targets: %w", err)
	}
	if !bytes.Contains(targets, []byte("crypt")) {
		return errors.New("the kernel has no dm-crypt")
	}
	return nil
}

const sector = 512

// cryptTable is what dm-crypt is told: sectors of all the device, encrypted each under its own number.
func cryptTable(device string, bytes int64, key []byte) string {
	return fmt.Sprintf("0 %d crypt aes-xts-plain64 %s 0 %s 0\n", bytes/sector, hex.EncodeToString(key), device)
}

// unmake removes what one line of made.Below names; what is gone already is no error.
func unmake(what string) error {
	kind, name, _ := strings.Cut(what, " ")
	switch kind {
	case "zram":
		if _, err := os.Stat("/sys/block/" + name); err != nil {
			return nil
		}
		if err := os.WriteFile(filepath.Join("/sys/block", name, "reset"), []byte("1"), 0); err != nil {
			return fmt.Errorf("resetting %s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(zramControl, "hot_remove"), []byte(strings.TrimPrefix(name, "zram")), 0); err != nil {
			return fmt.Errorf("removing %s: %w", name, err)
		}
	case "crypt":
		if _, err := os.Stat("/dev/mapper/" + name); err != nil {
			return nil
		}
		if said, err := exec.Command("dmsetup", "remove", name).CombinedOutput(); err != nil {
			return fmt.Errorf("removing the encrypted device %s: %w: %s", name, err, strings.TrimSpace(string(said)))
		}
	}
	return nil
}

// header is the first page of a swap area, as the kernel wants it (union swap_header in linux/swap.h).
func header(bytes int64, pageSize int) []byte {
	page := make([]byte, pageSize)
	binary.NativeEndian.PutUint32(page[1024:], 1)
	binary.NativeEndian.PutUint32(page[1028:], uint32(bytes/int64(pageSize)-1)) // The last page.
	copy(page[1052:], "torpor")                                                 // Its label, after the uuid.
	copy(page[pageSize-10:], "SWAPSPACE2")
	return page
}

func writeHeader(device string, bytes int64) error {
	file, err := os.OpenFile(device, os.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening the swap area %s: %w", device, err)
	}
	defer file.Close()
	if _, err := file.WriteAt(header(bytes, os.Getpagesize()), 0); err != nil {
		return fmt.Errorf("writing the header of the swap area %s: %w", device, err)
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("writing the header of the swap area %s: %w", device, err)
	}
	return nil
}

func swapOn(device string) error { return swapCall(unix.SYS_SWAPON, device) }

// swapOff is content with what is not swapped to.
func swapOff(device string) error {
	err := swapCall(unix.SYS_SWAPOFF, device)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func swapCall(call uintptr, device string) error {
	path, err := unix.BytePtrFromString(device)
	if err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(call, uintptr(unsafe.Pointer(path)), 0, 0); errno != 0 {
		what := map[uintptr]string{unix.SYS_SWAPON: "on", unix.SYS_SWAPOFF: "off"}[call]
		return fmt.Errorf("turning swap %s for %s: %w", what, device, errno)
	}
	return nil
}
