// faultfs is a file system for tests, which fails as hardware does.
//
//	faultfs directory <source> <mountpoint>   what lies in source, with errors on demand
//	faultfs disk <file> <mountpoint>          one file, "disk", whose power can be cut
//
// It says "ready" on standard output, then takes orders on standard input, one a line, and answers each with a line of its
// own, which begins with "ok" or "error". It unmounts and ends when standard input does, so that no test leaves it behind.
package main

import (
	"bufio"
	"fmt"
	"os"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// commandable takes the orders of a test.
type commandable interface {
	order(line string) error
}

func main() {
	if len(os.Args) != 4 {
		fail(fmt.Errorf("expected: faultfs directory|disk <source> <mountpoint>"))
	}
	root, taker, err := open(os.Args[1], os.Args[2])
	if err != nil {
		fail(err)
	}
	_, err = fs.Mount(os.Args[3], root, &fs.Options{
		MountOptions: fuse.MountOptions{Name: "faultfs", AllowOther: true, DirectMountStrict: true, MaxWrite: 1 << 20},
	})
	if err != nil {
		fail(fmt.Errorf("mounting at %s: %w", os.Args[3], err))
	}
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if err := taker.order(lines.Text()); err != nil {
			fmt.Println("error", err)
			continue
		}
		fmt.Println("ok")
	}
	// The server's own Unmount waits until the kernel has forgotten the file system, of which a mount namespace that was made
	// meanwhile may have a copy. With our end it is forgotten everywhere.
	if err := syscall.Unmount(os.Args[3], 0); err != nil {
		fail(fmt.Errorf("unmounting %s: %w", os.Args[3], err))
	}
}

func open(kind, source string) (fs.InodeEmbedder, commandable, error) {
	switch kind {
	case "directory":
		faults := &faults{}
		root, err := newDirectory(source, faults)
		return root, faults, err
	case "disk":
		disk, err := openDisk(source)
		if err != nil {
			return nil, nil, err
		}
		return &diskRoot{disk: disk}, disk, nil
	}
	return nil, nil, fmt.Errorf("%q is neither directory nor disk", kind)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "faultfs:", err)
	os.Exit(1)
}
