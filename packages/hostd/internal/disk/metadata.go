package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// madeMib is what mkfs gives the metadata.
const madeMib = 8

// roomForMetadata takes a whole chunk for metadata while there is one to be had. The file system would take it when the 8 MiB
// that mkfs leaves are used; by then data may have taken all the rest, the reserve with it, since it comes in chunks of up to a
// tenth of the pool. And in a pool without room for metadata no sandbox can be woken, moved or deleted.
func (p *Pool) roomForMetadata(ctx context.Context) error {
	has, err := p.metadataMib()
	if err != nil || has > madeMib {
		return err
	}
	// What is there moves to a new chunk, of the size that chunks have here.
	command := exec.CommandContext(ctx, "btrfs", "--quiet", "balance", "start", "-m", p.paths.PoolDir)
	out, err := command.CombinedOutput()
	if err != nil && strings.Contains(string(out), "No space left") {
		return nil // It was filled before: it goes on as it is.
	}
	if err != nil {
		return fmt.Errorf("making room for metadata in %s: %w: %s", p.paths.PoolDir, err, strings.TrimSpace(string(out)))
	}
	return nil
}

func (p *Pool) metadataMib() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/sys/fs/btrfs/%s/allocation/metadata/total_bytes", p.uuid))
	if err != nil {
		return 0, fmt.Errorf("reading how much of the pool is for metadata: %w", err)
	}
	bytes, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, errors.Join(errors.New("reading how much of the pool is for metadata"), err)
	}
	return bytes >> 20, nil
}
