package survey

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"torpor.dev/hostd/internal/wire"
)

// replyMax is the longest word of a child that is listened to: less than a line of the protocol.
const replyMax = wire.MaxLine - 64<<10

// Send has a child do the job, and ends it with the context. emptyRoot is a directory with nothing in it.
func Send(ctx context.Context, emptyRoot string, job Job) (Told, error) {
	said := &bytes.Buffer{}
	if _, err := run(ctx, emptyRoot, job, replyMax, said); err != nil {
		return Told{}, err
	}
	return told(said.Bytes())
}

// Pack has a child pack one tree into a file, of at most so many bytes.
func Pack(ctx context.Context, emptyRoot string, job Job, bytesMax int64, to io.Writer) error {
	complaint, err := run(ctx, emptyRoot, job, bytesMax, to)
	if err != nil {
		return err
	}
	_, err = told(complaint)
	return err
}

func told(said []byte) (Told, error) {
	var reply Reply
	if err := json.Unmarshal(said, &reply); err != nil {
		return Told{}, fmt.Errorf("reading what the surveyor said: %w", err)
	}
	switch reply.Kind {
	case "":
		return reply.Told, nil
	case TooMuch:
		return Told{}, wire.Errorf(wire.TooLarge, "%s; name a part of the tree", reply.Why)
	case Nowhere:
		return Told{}, wire.Errorf(wire.NotFound, "%s", reply.Why)
	}
	return Told{}, fmt.Errorf("comparing trees: %s", reply.Why)
}

// run has the child do the job to its end, and gives what it complained of.
func run(ctx context.Context, emptyRoot string, job Job, bytesMax int64, to io.Writer) ([]byte, error) {
	text, err := json.Marshal(job)
	if err != nil {
		return nil, err
	}
	asked, asking, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("asking a surveyor: %w", err)
	}
	defer asking.Close()
	process := exec.CommandContext(ctx, "/proc/self/exe", "survey", emptyRoot)
	complaint := &bytes.Buffer{}
	process.ExtraFiles, process.Env, process.Stderr = []*os.File{asked}, []string{}, complaint
	process.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
	}
	output, err := process.StdoutPipe()
	if err == nil {
		err = process.Start()
	}
	asked.Close()
	if err != nil {
		return nil, fmt.Errorf("starting a surveyor: %w", err)
	}
	_, askErr := asking.Write(text)
	asking.Close()
	said, copyErr := io.Copy(to, io.LimitReader(output, bytesMax+1))
	if said > bytesMax || copyErr != nil {
		process.Process.Kill()
	}
	endErr := process.Wait()
	switch {
	case ctx.Err() != nil:
		return nil, wire.Errorf(wire.Deadline, "the files were not gone through in time; name a part of the tree")
	case said > bytesMax:
		return nil, wire.Errorf(wire.TooLarge, "the surveyor had more to say than %d bytes", bytesMax)
	case copyErr != nil:
		return nil, fmt.Errorf("taking down what the surveyor said: %w", copyErr)
	case askErr != nil, endErr != nil:
		text := strings.TrimSpace(complaint.String())
		return nil, fmt.Errorf("the surveyor ended without a word (%v): %s", errors.Join(askErr, endErr), text[:min(len(text), 300)])
	}
	return complaint.Bytes(), nil
}
