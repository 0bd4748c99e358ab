package main

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// diskRoot is a directory with the one file.
type diskRoot struct {
	fs.Inode
	disk *disk
}

var _ fs.NodeOnAdder = (*diskRoot)(nil)

func (r *diskRoot) OnAdd(ctx context.Context) {
	r.AddChild("disk", r.NewPersistentInode(ctx, &diskNode{disk: r.disk}, fs.StableAttr{Mode: syscall.S_IFREG}), true)
}

type diskNode struct {
	fs.Inode
	disk *disk
}

var (
	_ fs.NodeOpener    = (*diskNode)(nil)
	_ fs.NodeGetattrer = (*diskNode)(nil)
	_ fs.NodeReader    = (*diskNode)(nil)
	_ fs.NodeWriter    = (*diskNode)(nil)
	_ fs.NodeFsyncer   = (*diskNode)(nil)
)

func (n *diskNode) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, 0, 0
}

func (n *diskNode) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size, out.Blocks = syscall.S_IFREG|0o600, uint64(n.disk.size), uint64(n.disk.size/512)
	return 0
}

func (n *diskNode) Read(_ context.Context, _ fs.FileHandle, buffer []byte, at int64) (fuse.ReadResult, syscall.Errno) {
	count, err := n.disk.read(buffer, at)
	return fuse.ReadResultData(buffer[:count]), told(err)
}

func (n *diskNode) Write(_ context.Context, _ fs.FileHandle, data []byte, at int64) (uint32, syscall.Errno) {
	return uint32(len(data)), told(n.disk.write(data, at))
}

func (n *diskNode) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	return told(n.disk.flush())
}

// told says what went wrong with the file below; whoever uses the disk hears of an I/O error.
func told(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "faultfs:", err)
	return syscall.EIO
}
