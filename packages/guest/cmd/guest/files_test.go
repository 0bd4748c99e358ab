package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestAFileIsWrittenAndReadBack(t *testing.T) {
	g := startGuest(t)
	path := filepath.Join(g.dir, "a b", "é☃😀.txt")
	content := "/v1/files/content?" + at(path)
	g.refused(404, "not_found", "GET", content, nil)
	g.refused(404, "not_found", "PUT", content, "no parents")
	written := g.ok("PUT", content+"&parents=1&mode=0640", "hello")
	equal(t, "mode", written["mode"], "0640")
	equal(t, "type", written["type"], "file")
	equal(t, "size", written["size"], 5)
	response := g.send("GET", content, nil)
	defer response.Body.Close()
	var metadata m
	must(t, json.Unmarshal([]byte(response.Header.Get("X-Torpor-File")), &metadata))
	equal(t, "path in the header", metadata["path"], path)
	// Written again without a mode it keeps the one it has.
	equal(t, "kept mode", g.ok("PUT", content, "again")["mode"], "0640")
	equal(t, "appended", g.ok("PUT", content+"&append=1", "!!")["size"], 7)
	_, raw := g.raw("GET", content, nil)
	equal(t, "content", string(raw), "again!!")
	entries, err := os.ReadDir(filepath.Dir(path))
	must(t, err)
	equal(t, "no temporary file is left", len(entries), 1)
}

func TestRanges(t *testing.T) {
	g := startGuest(t)
	path := filepath.Join(g.dir, "f")
	must(t, os.WriteFile(path, []byte("0123456789"), 0o644))
	for asked, want := range map[string]string{"bytes=2-4": "234", "bytes=7-": "789", "bytes=-2": "89", "bytes=0-0": "0"} {
		request, _ := http.NewRequest("GET", g.url+"/v1/files/content?"+at(path), nil)
		request.Header.Set("Authorization", "Bearer "+g.token)
		request.Header.Set("Range", asked)
		response, err := g.http.Do(request)
		must(t, err)
		raw, _ := io.ReadAll(response.Body)
		response.Body.Close()
		equal(t, asked, fmt.Sprint(response.StatusCode, string(raw)), "206"+want)
	}
}

func TestABrokenUploadLeavesTheOldFile(t *testing.T) {
	g := startGuest(t)
	path := filepath.Join(g.dir, "f")
	must(t, os.WriteFile(path, []byte("old"), 0o600))
	reader, writer := io.Pipe()
	request, _ := http.NewRequest("PUT", g.url+"/v1/files/content?"+at(path), reader)
	request.Header.Set("Authorization", "Bearer "+g.token)
	go func() {
		writer.Write(bytes.Repeat([]byte("x"), 100_000))
		writer.CloseWithError(errors.New("the uploader broke off"))
	}()
	if response, err := g.http.Do(request); err == nil {
		response.Body.Close()
	}
	eventually(t, "the temporary file is gone", func() bool {
		entries, _ := os.ReadDir(g.dir)
		for _, entry := range entries {
			if strings.HasPrefix(entry.Name(), ".torpor-") {
				return false
			}
		}
		return true
	})
	content, err := os.ReadFile(path)
	must(t, err)
	equal(t, "content", string(content), "old")
}

func TestOneBigFileAndItsParts(t *testing.T) {
	g := startGuest(t)
	big := make([]byte, 40<<20)
	rand.Read(big)
	path := filepath.Join(g.dir, "big")
	parts := []string{}
	for index := 0; index < 4; index++ {
		part := fmt.Sprintf("%s.part%d", path, index)
		g.ok("PUT", "/v1/files/content?"+at(part), big[index*10<<20:(index+1)*10<<20])
		parts = append(parts, part)
	}
	g.refused(404, "not_found", "POST", "/v1/files/assemble", m{"path": path, "parts": append([]string{}, append(parts, path+".none")...), "remove": true})
	equal(t, "parts stay after a failure", exists(parts[0]), true)
	g.ok("POST", "/v1/files/assemble", m{"path": path, "mode": "0600", "parts": parts, "remove": true})
	equal(t, "parts", exists(parts[0]), false)
	_, raw := g.raw("GET", "/v1/files/content?"+at(path), nil)
	equal(t, "same bytes", bytes.Equal(raw, big), true)
}

func TestNothingHangsOnWhatIsNoFile(t *testing.T) {
	g := startGuest(t)
	fifo := filepath.Join(g.dir, "fifo")
	must(t, syscall.Mkfifo(fifo, 0o644))
	for _, path := range []string{fifo, "/dev/null"} {
		g.refused(422, "failed", "GET", "/v1/files/content?"+at(path), nil)
		g.refused(422, "failed", "PUT", "/v1/files/content?"+at(path), "x")
		g.refused(422, "failed", "PUT", "/v1/files/content?append=1&"+at(path), "x")
		equal(t, "type", g.ok("GET", "/v1/files/stat?"+at(path), nil)["type"], "other")
	}
	g.refused(409, "conflict", "GET", "/v1/files/content?"+at(g.dir), nil)
	g.refused(409, "conflict", "PUT", "/v1/files/content?"+at(g.dir), "x")
	g.ok("GET", "/v1/files/grep?query=x&"+at(g.dir), nil)
	_, raw := g.raw("GET", "/v1/files/content?"+at("/proc/self/status"), nil)
	if !strings.Contains(string(raw), "guest") {
		t.Fatalf("a file of /proc: %q", raw)
	}
}

func TestLinksAreShownAsLinksAndWrittenThrough(t *testing.T) {
	g := startGuest(t)
	target, link := filepath.Join(g.dir, "target"), filepath.Join(g.dir, "link")
	must(t, os.WriteFile(target, []byte("1"), 0o644))
	must(t, os.Symlink("target", link))
	stat := g.ok("GET", "/v1/files/stat?"+at(link), nil)
	equal(t, "link", fmt.Sprint(stat["type"], stat["target"]), "symlinktarget")
	g.ok("PUT", "/v1/files/content?"+at(link), "2")
	content, _ := os.ReadFile(target)
	equal(t, "target", string(content), "2")
	equal(t, "still a link", g.ok("GET", "/v1/files/stat?"+at(link), nil)["type"], "symlink")
	loop := filepath.Join(g.dir, "loop")
	must(t, os.Symlink("loop", loop))
	g.refused(400, "bad_request", "PUT", "/v1/files/content?"+at(loop), "x")
	g.refused(400, "bad_request", "GET", "/v1/files/content?"+at(loop), nil)
}

func TestDirectories(t *testing.T) {
	g := startGuest(t)
	dir := filepath.Join(g.dir, "d")
	g.refused(404, "not_found", "POST", "/v1/files/mkdir", m{"path": dir + "/a/b"})
	g.ok("POST", "/v1/files/mkdir", m{"path": dir + "/a/b", "parents": true, "mode": "0700"})
	g.ok("POST", "/v1/files/mkdir", m{"path": dir + "/a/b", "parents": true})
	g.refused(409, "exists", "POST", "/v1/files/mkdir", m{"path": dir + "/a/b"})
	must(t, os.WriteFile(dir+"/z", nil, 0o644))
	g.refused(409, "conflict", "POST", "/v1/files/mkdir", m{"path": dir + "/z/x", "parents": true})
	names := func(query string) string {
		all := []string{}
		listed := g.ok("GET", "/v1/files/list?"+at(dir)+query, nil)
		for _, entry := range listed["entries"].([]any) {
			all = append(all, entry.(m)["name"].(string))
		}
		return fmt.Sprint(all, listed["truncated"])
	}
	equal(t, "list", names(""), "[a z] false")
	equal(t, "depth", names("&depth=3"), "[a b z] false")
	equal(t, "limit", names("&limit=1"), "[a] true")
	g.refused(409, "conflict", "GET", "/v1/files/list?"+at(dir+"/z"), nil)
	g.refused(404, "not_found", "GET", "/v1/files/list?"+at(dir+"/none"), nil)
	g.refused(400, "bad_request", "GET", "/v1/files/list", nil)
	g.refused(422, "not_empty", "DELETE", "/v1/files?"+at(dir), nil)
	g.refused(400, "bad_request", "DELETE", "/v1/files?recursive=1&path=/", nil)
	g.ok("DELETE", "/v1/files?recursive=1&"+at(dir), nil)
	g.refused(404, "not_found", "DELETE", "/v1/files?"+at(dir), nil)
}

func TestMove(t *testing.T) {
	g := startGuest(t)
	from, to := filepath.Join(g.dir, "from"), filepath.Join(g.dir, "to")
	must(t, os.WriteFile(from, []byte("new"), 0o644))
	must(t, os.WriteFile(to, []byte("old"), 0o644))
	g.refused(409, "exists", "POST", "/v1/files/move", m{"from": from, "to": to})
	g.ok("POST", "/v1/files/move", m{"from": from, "to": to, "overwrite": true})
	g.refused(404, "not_found", "POST", "/v1/files/move", m{"from": from, "to": to})
	content, _ := os.ReadFile(to)
	equal(t, "content", string(content), "new")
}

func TestRelativePathsAndHome(t *testing.T) {
	g := startGuest(t)
	work := filepath.Join(g.dir, "w")
	g.ok("POST", "/v1/identity", m{"token": "t", "generation": 1, "workdir": work, "user": "root"})
	g.token = "t"
	equal(t, "relative", g.ok("PUT", "/v1/files/content?path=rel.txt", "x")["path"], work+"/rel.txt")
	equal(t, "home", g.ok("GET", "/v1/files/stat?path=~", nil)["path"], "/root")
}

func TestFindAndGrep(t *testing.T) {
	g := startGuest(t)
	for name, content := range map[string]string{
		"src/a.go": "one\nTwo two\nthree", "src/b.txt": "two", ".hidden/c.go": "two", "node_modules/d.go": "two", "bin.go": "two\x00two",
	} {
		path := filepath.Join(g.dir, "t", name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(content), 0o644))
	}
	base := "?" + at(g.dir+"/t") + "&excludeDirs=node_modules&excludeHidden=1"
	found := g.ok("GET", "/v1/files/find"+base+"&type=file&patterns=*.go", nil)
	equal(t, "find", fmt.Sprint(found["total"], found["matches"]), fmt.Sprintf("2 [map[path:%[1]s/t/bin.go type:file] map[path:%[1]s/t/src/a.go type:file]]", g.dir))
	equal(t, "limit", len(g.ok("GET", "/v1/files/find?limit=2&"+at(g.dir), nil)["matches"].([]any)), 2)
	hits := g.ok("GET", "/v1/files/grep"+base+"&query=two&context=1", nil)
	equal(t, "grep", hits["total"], 2)
	first := hits["matches"].([]any)[0].(m)
	equal(t, "first", fmt.Sprint(first["line"], first["column"], first["text"], "|", first["context"]), "2 1Two two|one\nTwo two\nthree")
	sensitive := g.ok("GET", "/v1/files/grep"+base+"&query=two&caseSensitive=1&patterns=*.go", nil)["matches"].([]any)
	equal(t, "case", fmt.Sprint(sensitive[0].(m)["column"]), "5")
	g.refused(400, "bad_request", "GET", "/v1/files/grep"+base+"&query=(&regex=1", nil)
	g.refused(400, "bad_request", "GET", "/v1/files/grep"+base, nil)
	g.refused(400, "bad_request", "GET", "/v1/files/find"+base+"&patterns=[", nil)
}

func TestAWatchSeesAlsoWhatIsMadeLater(t *testing.T) {
	g := startGuest(t)
	root := filepath.Join(g.dir, "watched")
	must(t, os.MkdirAll(filepath.Join(root, "there"), 0o755))
	response := g.send("GET", "/v1/files/watch?recursive=1&ignore=node_modules&"+at(root), nil)
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	expect := func(wanted ...string) {
		t.Helper()
		open := map[string]bool{}
		for _, item := range wanted {
			open[item] = true
		}
		for len(open) > 0 && lines.Scan() {
			var change struct{ Op, Path, Name string }
			must(t, json.Unmarshal(lines.Bytes(), &change))
			delete(open, change.Op+" "+strings.TrimPrefix(change.Path, root+"/"))
			if strings.Contains(change.Path, "node_modules") {
				t.Fatalf("ignored, but told: %s", lines.Text())
			}
		}
		if len(open) > 0 {
			t.Fatalf("never told: %v", open)
		}
	}
	if !lines.Scan() || lines.Text() != `{"ready":true}` {
		t.Fatalf("first line: %s", lines.Text())
	}
	must(t, os.Mkdir(filepath.Join(root, "node_modules"), 0o755))
	must(t, os.WriteFile(filepath.Join(root, "node_modules", "x"), []byte("1"), 0o644))
	must(t, os.WriteFile(filepath.Join(root, "there", "f"), []byte("1"), 0o644))
	expect("create there/f", "write there/f")
	must(t, os.Chmod(filepath.Join(root, "there", "f"), 0o600))
	expect("chmod there/f")
	must(t, os.MkdirAll(filepath.Join(root, "new", "deep"), 0o755))
	must(t, os.WriteFile(filepath.Join(root, "new", "deep", "g"), []byte("1"), 0o644))
	expect("create new", "create new/deep", "create new/deep/g")
	must(t, os.WriteFile(filepath.Join(root, "new", "deep", "h"), []byte("1"), 0o644))
	expect("create new/deep/h")
	must(t, os.Rename(filepath.Join(root, "new"), filepath.Join(root, "moved")))
	expect("rename new", "create moved")
	must(t, os.WriteFile(filepath.Join(root, "moved", "deep", "i"), []byte("1"), 0o644))
	expect("create moved/deep/i")
	must(t, os.RemoveAll(filepath.Join(root, "moved")))
	expect("remove moved/deep/i", "remove moved")
	g.refused(404, "not_found", "GET", "/v1/files/watch?"+at(root+"/none"), nil)
}

func TestWatchesEndWithTheirCallers(t *testing.T) {
	g := startGuest(t)
	watchers := func() (count int) {
		open, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", g.cmd.Process.Pid))
		for _, descriptor := range open {
			if what, _ := os.Readlink(descriptor); strings.Contains(what, "inotify") {
				count++
			}
		}
		return count
	}
	for range 50 {
		response := g.send("GET", "/v1/files/watch?"+at(g.dir), nil)
		if _, err := response.Body.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		equal(t, "it watches", watchers() > 0, true)
		response.Body.Close()
	}
	eventually(t, "every inotify is closed", func() bool { return watchers() == 0 })
}
