// Package identity holds who this instance is: nobody while it waits in a pool, then what the claim says.
// A later claim (after a restore or a fork) must carry a greater generation.
package identity

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"torpor/guest/internal/account"
	"torpor/guest/internal/fault"
	"torpor/guest/internal/process"
)

// Claim makes a pooled instance somebody's.
type Claim struct {
	Name       string            `json:"name"`
	Hostname   string            `json:"hostname"`
	Env        map[string]string `json:"env"`
	Workdir    string            `json:"workdir"`
	User       string            `json:"user"`
	Token      string            `json:"token"`
	Generation int64             `json:"generation"`
	Files      []File            `json:"files"`
}

// File is written as root at the claim. Encoding is "utf-8" (the default) or "base64".
type File struct {
	Path     string `json:"path"`
	Mode     string `json:"mode"`
	Content  string `json:"content"`
	Encoding string `json:"encoding"`
}

// Places are where the identity is published. Tests point them into a temporary directory.
type Places struct {
	StateDir    string // /run/torpor
	EtcDir      string // /etc
	SetHostname bool
}

// Instance is the current identity. Safe for concurrent use.
type Instance struct {
	places Places
	book   *account.Book

	claiming sync.Mutex // one claim at a time
	mu       sync.RWMutex
	token    [sha256.Size]byte
	claimed  bool
	claim    Claim
}

// New is an instance that nobody has claimed; the boot token is all that opens it.
func New(places Places, book *account.Book, bootToken string) *Instance {
	return &Instance{places: places, book: book, token: sha256.Sum256([]byte(bootToken))}
}

// Opens says whether the token is the one in force, in the same time for every wrong one.
func (i *Instance) Opens(token string) bool {
	given := sha256.Sum256([]byte(token))
	i.mu.RLock()
	defer i.mu.RUnlock()
	return subtle.ConstantTimeCompare(given[:], i.token[:]) == 1
}

// State is whether the instance was claimed, and its generation.
func (i *Instance) State() (claimed bool, generation int64) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.claimed, i.claim.Generation
}

// Surroundings are what every process of the instance gets.
func (i *Instance) Surroundings() process.Surroundings {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return process.Surroundings{Env: i.claim.Env, Workdir: i.claim.Workdir, User: i.claim.User}
}

// Owner is the account that files written through the API belong to, and its home.
func (i *Instance) Owner() (account.Account, error) { return i.book.Resolve(i.Surroundings().User) }

// Take applies a claim. Nothing of it is in force unless all of it could be done; the token changes last.
func (i *Instance) Take(claim Claim) error {
	i.claiming.Lock()
	defer i.claiming.Unlock()
	if err := i.check(claim); err != nil {
		return err
	}
	owner, err := i.book.Resolve(claim.User)
	if err != nil {
		return err
	}
	if claim.Workdir == "" {
		claim.Workdir = owner.Home
	}
	if err := makeWorkdir(claim.Workdir, owner); err != nil {
		return fault.Failed("could not make the workdir %s: %v", claim.Workdir, err)
	}
	if err := i.publishHostname(claim.Hostname); err != nil {
		return fault.Failed("could not set the hostname: %v", err)
	}
	for _, file := range claim.Files {
		if err := writeFile(file); err != nil {
			return err
		}
	}
	if err := i.publishGeneration(claim.Generation); err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.claim, i.claimed = claim, true
	i.token = sha256.Sum256([]byte(claim.Token))
	i.claim.Token, i.claim.Files = "", nil // not needed again, so not kept where a memory image would hold it
	return nil
}

func (i *Instance) check(claim Claim) error {
	claimed, generation := i.State()
	switch {
	case claim.Token == "":
		return fault.BadRequest("the claim has no token; expected the one that opens the instance from now on")
	case claim.Generation < 0:
		return fault.BadRequest("generation is %d; expected 0 or more", claim.Generation)
	case claimed && claim.Generation <= generation:
		return fault.Conflict("generation %d is not greater than the present %d", claim.Generation, generation)
	case claim.Workdir != "" && !filepath.IsAbs(claim.Workdir):
		return fault.BadRequest("workdir is %q; expected an absolute path", claim.Workdir)
	case len(claim.Hostname) > 64 || strings.ContainsAny(claim.Hostname, " \t\n\x00/#"):
		return fault.BadRequest("hostname is %q; expected at most 64 characters without blanks", claim.Hostname)
	}
	for name, value := range claim.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(value, "\x00") {
			return fault.BadRequest("env has the name %q; expected names without '=' and no NUL bytes", name)
		}
	}
	for _, file := range claim.Files {
		if !filepath.IsAbs(file.Path) {
			return fault.BadRequest("files has the path %q; expected an absolute one", file.Path)
		}
	}
	return nil
}

// Advance publishes a greater generation of the same identity: the notice of a restore or fork.
func (i *Instance) Advance(generation int64) error {
	i.claiming.Lock()
	defer i.claiming.Unlock()
	if _, present := i.State(); generation <= present {
		return fault.Conflict("generation %d is not greater than the present %d", generation, present)
	}
	if err := i.publishGeneration(generation); err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.claim.Generation = generation
	return nil
}

// Published is the generation that programs can read; false where there is none, which the instance's own programs may have brought about.
func (i *Instance) Published() (int64, bool) {
	content, err := os.ReadFile(filepath.Join(i.places.StateDir, "generation"))
	if err != nil {
		return 0, false
	}
	generation, err := strconv.ParseInt(strings.TrimSpace(string(content)), 10, 64)
	return generation, err == nil
}

func (i *Instance) publishGeneration(generation int64) error {
	if err := os.MkdirAll(i.places.StateDir, 0o755); err != nil {
		return fmt.Errorf("publish the generation: %w", err)
	}
	path := filepath.Join(i.places.StateDir, "generation")
	return replace(path, []byte(strconv.FormatInt(generation, 10)+"\n"), 0o644)
}

const hostsMark = "# torpor"

func (i *Instance) publishHostname(hostname string) error {
	if hostname == "" {
		return nil
	}
	if i.places.SetHostname {
		if err := unix.Sethostname([]byte(hostname)); err != nil {
			return fmt.Errorf("sethostname: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(i.places.EtcDir, "hostname"), []byte(hostname+"\n"), 0o644); err != nil {
		return err
	}
	path := filepath.Join(i.places.EtcDir, "hosts")
	present, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	return os.WriteFile(path, []byte(hostsWith(string(present), hostname)), 0o644)
}

// hostsWith replaces our own line of /etc/hosts and keeps the tenant's.
func hostsWith(present, hostname string) string {
	lines := []string{}
	for line := range strings.Lines(present) {
		if !strings.HasSuffix(strings.TrimSpace(line), hostsMark) {
			lines = append(lines, strings.TrimRight(line, "\n"))
		}
	}
	if len(lines) == 0 {
		lines = append(lines, "127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback")
	}
	lines = append(lines, "127.0.1.1\t"+hostname+" "+hostsMark)
	return strings.Join(lines, "\n") + "\n"
}

func makeWorkdir(path string, owner account.Account) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	return os.Chown(path, int(owner.UID), int(owner.GID))
}

func writeFile(file File) error {
	content := []byte(file.Content)
	if file.Encoding == "base64" {
		decoded, err := base64.StdEncoding.DecodeString(file.Content)
		if err != nil {
			return fault.BadRequest("the content of %s is not base64: %v", file.Path, err)
		}
		content = decoded
	}
	mode := uint64(0o644)
	if file.Mode != "" {
		parsed, err := strconv.ParseUint(file.Mode, 8, 12)
		if err != nil {
			return fault.BadRequest("the mode of %s is %q; expected octal digits such as 0644", file.Path, file.Mode)
		}
		mode = parsed
	}
	if err := os.MkdirAll(filepath.Dir(file.Path), 0o755); err != nil {
		return err
	}
	return replace(file.Path, content, os.FileMode(mode))
}

func replace(path string, content []byte, mode os.FileMode) error {
	temporary := path + ".torpor-tmp"
	if err := os.WriteFile(temporary, content, mode); err != nil {
		return err
	}
	if err := os.Chmod(temporary, mode); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
