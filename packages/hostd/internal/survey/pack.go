package survey

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// A pack is what a merge takes from a fork, as a tar stream that a guest makes of it what it says: first steps.json, the steps
// as they were given, then what the steps put somewhere, each under the number of its step.

// Merge is what steps.json says. See the guest's PROTOCOL.md.
type Merge struct {
	// SinceMs is when it was looked at what is there.
	SinceMs int64       `json:"sinceMs"`
	Steps   []MergeStep `json:"steps"`
}

// MergeStep is one path, and what is to be done there.
type MergeStep struct {
	Path []byte `json:"path"`
	// Do is put, remove or restate.
	Do string `json:"do"`
	// Expect is absent or present.
	Expect string `json:"expect"`
	Mode   uint32 `json:"mode"`
	UID    uint32 `json:"uid"`
	GID    uint32 `json:"gid"`
}

func pack(merge Merge, limits Limits, from *dir, to io.Writer) error {
	out, walk := tar.NewWriter(to), &walk{spend: newBudget(limits)}
	text, err := json.Marshal(merge)
	if err != nil {
		return err
	}
	if err := out.WriteHeader(&tar.Header{Name: "steps.json", Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(text))}); err != nil {
		return err
	}
	if _, err := out.Write(text); err != nil {
		return err
	}
	for number, step := range merge.Steps {
		if step.Do != "put" {
			continue
		}
		if err := walk.packPath(out, strconv.Itoa(number), from, strings.Split(string(step.Path), "/"), 0); err != nil {
			return err
		}
	}
	return out.Close()
}

// packPath goes to where a path leads, name by name.
func (w *walk) packPath(out *tar.Writer, as string, in *dir, parts []string, depth int) error {
	if len(parts) == 1 {
		return w.packEntry(out, as, in, parts[0], depth)
	}
	return w.below(parts[0], depth, []*dir{in}, parts[0], false, func(children []*dir, _ bool) error {
		return w.packPath(out, as, children[0], parts[1:], depth+1)
	})
}

func (w *walk) packEntry(out *tar.Writer, as string, in *dir, name string, depth int) error {
	if err := w.spend.spendEntries(1); err != nil {
		return err
	}
	entry, err := in.look(name)
	if err == nil && entry == nil {
		err = errNowhere
	}
	if err != nil {
		return quoted(name, err)
	}
	header := &tar.Header{
		Name: as, Mode: int64(entry.Mode), Uid: int(entry.UID), Gid: int(entry.GID), ModTime: entry.modified, Format: tar.FormatPAX,
		Typeflag: tarKind(entry), Linkname: string(entry.Target),
	}
	switch entry.Kind {
	case File:
		return w.packFile(out, header, in, name)
	case Directory:
		return w.packDirectory(out, header, in, name, depth)
	}
	return out.WriteHeader(header)
}

func (w *walk) packFile(out *tar.Writer, header *tar.Header, in *dir, name string) error {
	file, _, err := in.openFile(name)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return quoted(name, err)
	}
	header.Size = info.Size()
	if err := w.spend.spendBytes(header.Size); err != nil {
		return err
	}
	if header.PAXRecords, err = userAttributes(file); err != nil {
		return quoted(name, err)
	}
	if err := out.WriteHeader(header); err != nil {
		return quoted(name, err)
	}
	if _, err := io.Copy(out, file); err != nil {
		return quoted(name, err)
	}
	return w.spend.inTime()
}

func (w *walk) packDirectory(out *tar.Writer, header *tar.Header, in *dir, name string, depth int) error {
	return w.below(name, depth, []*dir{in}, name, false, func(children []*dir, _ bool) error {
		var err error
		if header.PAXRecords, err = userAttributes(children[0].merged); err != nil {
			return quoted(name, err)
		}
		if err := out.WriteHeader(header); err != nil {
			return quoted(name, err)
		}
		found := map[string]struct{}{}
		if err := names(children[0].merged, w.spend, found); err != nil {
			return quoted(name, err)
		}
		for child := range found {
			if err := w.packEntry(out, header.Name+"/"+child, children[0], child, depth+1); err != nil {
				return err
			}
		}
		return nil
	})
}

// tarKind of a socket or a device is one that nobody can make anything of, so that whoever unpacks tells of it.
func tarKind(entry *Entry) byte {
	switch {
	case entry.Kind == File:
		return tar.TypeReg
	case entry.Kind == Directory:
		return tar.TypeDir
	case entry.Kind == Symlink:
		return tar.TypeSymlink
	case entry.isPipe():
		return tar.TypeFifo
	}
	return tar.TypeChar
}

// packed is a Reply where its answer goes another way.
func packed(job Job, trees []*dir, to io.Writer) Reply {
	if len(trees) != 1 {
		return Reply{Why: fmt.Sprintf("a pack of %d trees", len(trees)), Kind: Failed}
	}
	err := pack(*job.Pack, job.Limits, trees[0], to)
	var limit *LimitError
	switch {
	case err == nil:
		return Reply{}
	case errors.As(err, &limit):
		return Reply{Why: err.Error(), Kind: TooMuch}
	}
	return Reply{Why: err.Error(), Kind: Failed}
}
