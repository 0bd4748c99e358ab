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
	text, err := json.Marshal(job)
	if err != nil {
		return Told{}, err
	}
	asked, asking, err := os.Pipe()
	if err != nil {
		return Told{}, fmt.Errorf("asking a surveyor: %w", err)
	}
	defer asking.Close()
	said, err := answer(ctx, emptyRoot, asked, func() error {
		defer asking.Close()
		_, err := asking.Write(text)
		return err
	})
	if err != nil {
		return Told{}, err
	}
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

// answer runs the child to its end.
func answer(ctx context.Context, emptyRoot string, asked *os.File, ask func() error) ([]byte, error) {
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
	askErr := ask()
	said, readErr := io.ReadAll(io.LimitReader(output, replyMax+1))
	if len(said) > replyMax {
		process.Process.Kill()
	}
	endErr := process.Wait()
	switch {
	case ctx.Err() != nil:
		return nil, wire.Errorf(wire.Deadline, "the comparison was not done in time; name a part of the tree")
	case len(said) > replyMax:
		return nil, errors.New("the surveyor said more than it was to")
	case askErr != nil, readErr != nil, endErr != nil:
		text := strings.TrimSpace(complaint.String())
		return nil, fmt.Errorf("the surveyor ended without a word (%v): %s", errors.Join(askErr, readErr, endErr), text[:min(len(text), 300)])
	}
	return said, nil
}
