package main

import (
	"context"
	"fmt"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// directory is a node of another file system, some of whose operations fail.
type directory struct {
	fs.LoopbackNode
	faults *faults
}

func newDirectory(source string, faults *faults) (fs.InodeEmbedder, error) {
	var stat syscall.Stat_t
	if err := syscall.Stat(source, &stat); err != nil {
		return nil, fmt.Errorf("looking at %s: %w", source, err)
	}
	root := &fs.LoopbackRoot{Path: source, Dev: uint64(stat.Dev)}
	root.NewNode = func(data *fs.LoopbackRoot, _ *fs.Inode, _ string, _ *syscall.Stat_t) fs.InodeEmbedder {
		return &directory{fs.LoopbackNode{RootData: data}, faults}
	}
	return root.NewNode(root, nil, "", &stat), nil
}

func (d *directory) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if errno := d.faults.of("mkdir"); errno != 0 {
		return nil, errno
	}
	return d.LoopbackNode.Mkdir(ctx, name, mode, out)
}

func (d *directory) Rename(ctx context.Context, name string, to fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	if errno := d.faults.of("rename"); errno != 0 {
		return errno
	}
	return d.LoopbackNode.Rename(ctx, name, to, newName, flags)
}

func (d *directory) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	if errno := d.faults.of("create"); errno != 0 {
		return nil, nil, 0, errno
	}
	node, handle, fuseFlags, errno := d.LoopbackNode.Create(ctx, name, flags, mode, out)
	return node, d.faulty(handle), fuseFlags, errno
}

func (d *directory) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	handle, fuseFlags, errno := d.LoopbackNode.Open(ctx, flags)
	return d.faulty(handle), fuseFlags, errno
}

func (d *directory) faulty(handle fs.FileHandle) fs.FileHandle {
	if plain, ok := handle.(*fs.LoopbackFile); ok {
		return &file{plain, d.faults}
	}
	return nil
}

// file hides by which descriptor the kernel could read and write past us.
type file struct {
	plain  *fs.LoopbackFile
	faults *faults
}

var (
	_ fs.FileReader    = (*file)(nil)
	_ fs.FileWriter    = (*file)(nil)
	_ fs.FileFsyncer   = (*file)(nil)
	_ fs.FileGetattrer = (*file)(nil)
	_ fs.FileSetattrer = (*file)(nil)
	_ fs.FileFlusher   = (*file)(nil)
	_ fs.FileReleaser  = (*file)(nil)
	_ fs.FileAllocater = (*file)(nil)
)

func (f *file) Read(ctx context.Context, buffer []byte, at int64) (fuse.ReadResult, syscall.Errno) {
	if errno := f.faults.of("read"); errno != 0 {
		return nil, errno
	}
	return f.plain.Read(ctx, buffer, at)
}

func (f *file) Write(ctx context.Context, data []byte, at int64) (uint32, syscall.Errno) {
	if errno := f.faults.of("write"); errno != 0 {
		return 0, errno
	}
	return f.plain.Write(ctx, data, at)
}

func (f *file) Fsync(ctx context.Context, flags uint32) syscall.Errno {
	if errno := f.faults.of("fsync"); errno != 0 {
		return errno
	}
	return f.plain.Fsync(ctx, flags)
}

func (f *file) Getattr(ctx context.Context, out *fuse.AttrOut) syscall.Errno {
	return f.plain.Getattr(ctx, out)
}

func (f *file) Setattr(ctx context.Context, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	return f.plain.Setattr(ctx, in, out)
}

func (f *file) Flush(ctx context.Context) syscall.Errno { return f.plain.Flush(ctx) }

func (f *file) Release(ctx context.Context) syscall.Errno { return f.plain.Release(ctx) }

func (f *file) Allocate(ctx context.Context, at, size uint64, mode uint32) syscall.Errno {
	return f.plain.Allocate(ctx, at, size, mode)
}
