package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const loopMajor = 7

// AttachLoop binds file to a free loop device and gives the device, still open: it detaches by itself at the last close or unmount.
func AttachLoop(path string) (*os.File, error) {
	backing, err := os.OpenFile(path, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the pool file: %w", err)
	}
	defer backing.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("opening /dev/loop-control: %w; load the loop module", err)
	}
	defer control.Close()
	for try := 0; try < 16; try++ {
		device, err := attachToFree(control, backing, path)
		if !errors.Is(err, unix.EBUSY) { // EBUSY: somebody else took it between the question and the binding.
			return device, err
		}
	}
	return nil, fmt.Errorf("binding %s to a loop device: every free one was taken meanwhile", path)
}

func attachToFree(control, backing *os.File, path string) (*os.File, error) {
	number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return nil, fmt.Errorf("asking for a free loop device: %w", err)
	}
	name := "/dev/loop" + strconv.Itoa(number)
	if err := unix.Mknod(name, unix.S_IFBLK|0o660, int(unix.Mkdev(loopMajor, uint32(number)))); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("making %s: %w", name, err)
	}
	device, err := os.OpenFile(name, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", name, err)
	}
	config := unix.LoopConfig{Fd: uint32(backing.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO}}
	copy(config.Info.File_name[:len(config.Info.File_name)-1], path)
	err = unix.IoctlLoopConfigure(int(device.Fd()), &config)
	if errors.Is(err, unix.EINVAL) { // The file system below knows no direct I/O.
		config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
		err = unix.IoctlLoopConfigure(int(device.Fd()), &config)
	}
	if err != nil {
		device.Close()
		return nil, fmt.Errorf("binding %s to %s: %w", path, name, err)
	}
	return device, nil
}

// loopsOf finds the loop devices bound to a file.
func loopsOf(path string) ([]string, error) {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, file := range files {
		backing, err := os.ReadFile(file)
		if err == nil && strings.TrimSuffix(strings.TrimSpace(string(backing)), " (deleted)") == path {
			out = append(out, "/dev/"+strings.Split(file, "/")[3])
		}
	}
	return out, nil
}

func detachLoop(device string) error {
	file, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("opening %s: %w", device, err)
	}
	defer file.Close()
	if err := unix.IoctlSetInt(int(file.Fd()), unix.LOOP_CLR_FD, 0); err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("detaching %s: %w", device, err)
	}
	return nil
}
