// Package account reads /etc/passwd and /etc/group of the instance. The files are small and the tenant may change them
// at any time, so they are read again whenever they changed.
package account

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"torpor/guest/internal/fault"
)

// Account is who a process runs as.
type Account struct {
	Name   string // empty for a uid without an entry
	UID    uint32
	GID    uint32
	Groups []uint32 // supplementary, the primary one included
	Home   string
	Shell  string
}

// Book looks accounts up below one /etc.
type Book struct {
	dir string

	mu     sync.Mutex
	passwd table
	group  table
}

type table struct {
	size  int64
	mtime int64
	rows  [][]string
}

func NewBook(etcDir string) *Book { return &Book{dir: etcDir} }

// Resolve understands `name`, `uid`, `name:group` and `uid:gid`. The empty string is root.
func (b *Book) Resolve(spec string) (Account, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	who, group, hasGroup := strings.Cut(spec, ":")
	if who == "" {
		who = "root"
	}
	b.passwd.refresh(filepath.Join(b.dir, "passwd"))
	if who != "root" || hasGroup { // root needs no supplementary groups, and a look less on every start
		b.group.refresh(filepath.Join(b.dir, "group"))
	}
	account, err := b.user(who)
	if err != nil {
		return Account{}, err
	}
	if hasGroup {
		gid, err := b.gid(group)
		if err != nil {
			return Account{}, err
		}
		account.GID = gid
	}
	account.Groups = b.groupsOf(account)
	return account, nil
}

// UserName is the name of a uid, or its number.
func (b *Book) UserName(uid uint32) string { return b.nameOf(&b.passwd, "passwd", uid) }

// GroupName is the name of a gid, or its number.
func (b *Book) GroupName(gid uint32) string { return b.nameOf(&b.group, "group", gid) }

func (b *Book) nameOf(table *table, file string, id uint32) string {
	if id == 0 {
		return "root" // by far the most frequent, and what it is called everywhere
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	table.refresh(filepath.Join(b.dir, file))
	number := strconv.FormatUint(uint64(id), 10)
	for _, row := range table.rows {
		if len(row) > 2 && row[2] == number {
			return row[0]
		}
	}
	return number
}

func (b *Book) user(who string) (Account, error) {
	for _, row := range b.passwd.rows {
		if len(row) < 7 || (row[0] != who && row[2] != who) {
			continue
		}
		uid, uidErr := parseID(row[2])
		gid, gidErr := parseID(row[3])
		if uidErr != nil || gidErr != nil {
			continue
		}
		return Account{Name: row[0], UID: uid, GID: gid, Home: orElse(row[5], "/"), Shell: orElse(row[6], "/bin/sh")}, nil
	}
	if who == "root" { // a template without /etc/passwd still has a root
		return Account{Name: "root", Home: "/root", Shell: "/bin/sh"}, nil
	}
	uid, err := parseID(who)
	if err != nil {
		return Account{}, fault.BadRequest("there is no user %q; expected a name in /etc/passwd, a uid, or uid:gid", who)
	}
	return Account{UID: uid, GID: uid, Home: "/", Shell: "/bin/sh"}, nil
}

func (b *Book) gid(group string) (uint32, error) {
	for _, row := range b.group.rows {
		if len(row) > 2 && row[0] == group {
			return parseID(row[2])
		}
	}
	gid, err := parseID(group)
	if err != nil {
		return 0, fault.BadRequest("there is no group %q; expected a name in /etc/group or a gid", group)
	}
	return gid, nil
}

func (b *Book) groupsOf(account Account) []uint32 {
	groups := []uint32{account.GID}
	if account.Name == "" || account.Name == "root" {
		return groups
	}
	for _, row := range b.group.rows {
		if len(row) < 4 || !contains(strings.Split(row[3], ","), account.Name) {
			continue
		}
		if gid, err := parseID(row[2]); err == nil && gid != account.GID {
			groups = append(groups, gid)
		}
	}
	return groups
}

func (t *table) refresh(path string) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		*t = table{}
		return
	}
	if t.rows != nil && info.Size() == t.size && info.ModTime().UnixNano() == t.mtime {
		return
	}
	content, err := os.ReadFile(path)
	if err != nil {
		*t = table{}
		return
	}
	*t = table{size: info.Size(), mtime: info.ModTime().UnixNano(), rows: rowsOf(content)}
}

func rowsOf(content []byte) [][]string {
	rows := [][]string{}
	lines := bufio.NewScanner(bytes.NewReader(content))
	for lines.Scan() {
		line := lines.Text()
		if line != "" && !strings.HasPrefix(line, "#") {
			rows = append(rows, strings.Split(line, ":"))
		}
	}
	return rows
}

func parseID(text string) (uint32, error) {
	id, err := strconv.ParseUint(text, 10, 32)
	return uint32(id), err
}

func orElse(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}

func contains(list []string, wanted string) bool {
	for _, item := range list {
		if item == wanted {
			return true
		}
	}
	return false
}
