package survey

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"gvisor.dev/gvisor/pkg/log"
)

// memoryMax is what the child's heap aims at: names of one directory are held together.
const memoryMax = 256 << 20

// Run is the child's whole life: it is asked by file descriptor 3 and answers by its output.
func Run(root string) error {
	log.SetTarget(log.GoogleEmitter{Writer: &log.Writer{Next: io.Discard}})
	debug.SetMemoryLimit(memoryMax)
	asked := os.NewFile(3, "hostd")
	var job Job
	if err := json.NewDecoder(asked).Decode(&job); err != nil {
		return fmt.Errorf("reading what to compare: %w", err)
	}
	asked.Close()
	trees, err := mountTrees(root, job.Trees)
	if err == nil {
		err = confine()
	}
	if err != nil {
		return err
	}
	if job.Pack == nil {
		return json.NewEncoder(os.Stdout).Encode(replyTo(job, trees))
	}
	// The output is the pack, so that the word goes where complaints go.
	return json.NewEncoder(os.Stderr).Encode(packed(job, trees, os.Stdout))
}

func replyTo(job Job, trees []*dir) Reply {
	told, err := survey(job, trees)
	var limit *LimitError
	switch {
	case err == nil:
		return Reply{Told: told}
	case errors.As(err, &limit):
		return Reply{Why: err.Error(), Kind: TooMuch}
	case errors.Is(err, errNowhere):
		return Reply{Why: err.Error(), Kind: Nowhere}
	}
	return Reply{Why: err.Error(), Kind: Failed}
}
