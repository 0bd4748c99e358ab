package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"torpor.dev/hostd/internal/image"
	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/wire"
)

// sendDisk writes a read-only snapshot, as btrfs sends it, into a sealed file.
func sendDisk(ctx context.Context, snapshot, to string, key []byte, name names.Image, owner int) error {
	file, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("making %s: %w", to, err)
	}
	defer file.Close()
	writer, err := image.NewWriter(file, key, diskName(name), image.Auto)
	if err != nil {
		return err
	}
	said := &bytes.Buffer{}
	command := exec.CommandContext(ctx, "btrfs", "--quiet", "send", snapshot)
	command.Stderr = said
	stream, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return fmt.Errorf("starting btrfs send: %w", err)
	}
	sealErr := seal(writer, stream)
	if sealErr != nil {
		command.Process.Kill() // It would wait for ever for somebody to read on.
	}
	if err := command.Wait(); err != nil && sealErr == nil {
		return errors.Join(ctx.Err(), fmt.Errorf("sending %s: %w: %s", snapshot, err, lastWords(said)))
	}
	if sealErr != nil {
		return sealErr
	}
	if _, err := writer.Finish(); err != nil {
		return err
	}
	return file.Chown(owner, owner)
}

func seal(writer *image.Writer, stream io.Reader) error {
	buffer := make([]byte, image.ChunkSize)
	for number := uint64(0); ; number++ {
		n, err := io.ReadFull(stream, buffer)
		if n > 0 {
			if err := writer.Put(number, buffer[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading what btrfs sends: %w", err)
		}
	}
}

// receiveDisk makes the subvolume "disk" in a directory, of a sealed file. All of the file is read and authenticated before
// btrfs sees its first byte: what root parses was sealed by who knows the image's key, a node of ours. And btrfs sees nothing but the directory.
func receiveDisk(ctx context.Context, into, from string, key []byte, name names.Image) error {
	file, err := os.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("opening %s: %w", from, err)
	}
	defer file.Close()
	reader, err := image.NewReader(file, key, diskName(name))
	if err == nil {
		_, err = reader.Verify()
	}
	if errors.Is(err, image.ErrRefused) {
		return wire.Errorf(wire.Refused, "the disk of image %s: %w", name, err)
	}
	if err != nil {
		return err
	}
	said := &bytes.Buffer{}
	command := exec.CommandContext(ctx, "btrfs", "--quiet", "receive", "--chroot", into)
	command.Stdin, command.Stderr = io.NewSectionReader(wholeOf{reader}, 0, reader.Length()), said
	if err := command.Run(); err != nil {
		return errors.Join(ctx.Err(), fmt.Errorf("receiving the disk of image %s: %w: %s", name, err, lastWords(said)))
	}
	return nil
}

// wholeOf reads a sealed file as an io.ReaderAt.
type wholeOf struct{ reader *image.Reader }

func (w wholeOf) ReadAt(into []byte, offset int64) (int, error) {
	return w.reader.ReadAt(uint64(offset), into)
}

func lastWords(said *bytes.Buffer) string {
	text := strings.TrimSpace(said.String())
	return text[max(0, len(text)-300):]
}
