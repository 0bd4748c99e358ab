package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// root makes what a host mounts, as far as it is looked at.
func root(t *testing.T, files map[string]string) string {
	t.Helper()
	top := t.TempDir()
	for name, text := range files {
		path := filepath.Join(top, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return top
}

func v1Files(controllers ...string) map[string]string {
	files := map[string]string{}
	for _, name := range controllers {
		files[name+"/cgroup.procs"] = ""
	}
	return files
}

func TestBothLayoutsAreDetected(t *testing.T) {
	for _, c := range []struct {
		files   map[string]string
		version string
		missing string
	}{
		{v1Files("memory", "cpu", "cpuacct", "pids", "freezer", "cpuset", "unified"), "v1", ""},
		{map[string]string{"cgroup.controllers": "cpuset cpu io memory pids misc"}, "v2", ""},
		{v1Files("memory", "cpu", "cpuacct", "pids"), "", "freezer"},
		{map[string]string{"cgroup.controllers": "cpu pids"}, "", "memory"},
	} {
		h, err := Detect(root(t, c.files))
		if c.missing != "" {
			if err == nil || !strings.Contains(err.Error(), c.missing) {
				t.Errorf("without %s: %v", c.missing, err)
			}
			continue
		}
		if err != nil || h.Version() != c.version {
			t.Errorf("want %s: got %v, %v", c.version, h, err)
		}
	}
}

func TestLimitsGoToTheFilesOfEachLayout(t *testing.T) {
	limits := Limits{MemoryMib: 512, Cpus: 1.5, Pids: 100}
	v1, err := Detect(root(t, v1Files("memory", "cpu", "cpuacct", "pids", "freezer")))
	if err != nil {
		t.Fatal(err)
	}
	v2, err := Detect(root(t, map[string]string{"cgroup.controllers": "cpu memory pids"}))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		h    Hierarchy
		want []string
	}{
		{v1, []string{
			"memory/torpor-abc123/inst0001/memory.memsw.limit_in_bytes=-1", "memory/torpor-abc123/inst0001/memory.limit_in_bytes=536870912",
			"memory/torpor-abc123/inst0001/memory.memsw.limit_in_bytes=536870912", "cpu/torpor-abc123/inst0001/cpu.cfs_period_us=100000",
			"cpu/torpor-abc123/inst0001/cpu.cfs_quota_us=150000", "pids/torpor-abc123/inst0001/pids.max=100",
		}},
		{v2, []string{
			"torpor-abc123/inst0001/memory.swap.max=0", "torpor-abc123/inst0001/memory.max=536870912", "torpor-abc123/inst0001/memory.oom.group=1",
			"torpor-abc123/inst0001/cpu.max=150000 100000", "torpor-abc123/inst0001/pids.max=100",
		}},
	} {
		group := c.h.Group("torpor-abc123", "inst0001")
		var got []string
		for _, setting := range group.settings(limits) {
			got = append(got, strings.TrimPrefix(setting.path, c.h.root+"/")+"="+setting.value)
		}
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: got %v, want %v", c.h.Version(), got, c.want)
		}
		if group.OCIPath() != "/torpor-abc123/inst0001" {
			t.Errorf("runsc is told %s", group.OCIPath())
		}
	}
}

func TestAV1CpusetInheritsWhatItWouldElseLack(t *testing.T) {
	files := v1Files("memory", "cpu", "cpuacct", "pids", "freezer", "cpuset")
	files["cpuset/cpuset.cpus"], files["cpuset/cpuset.mems"] = "0-3\n", "0\n"
	h, err := Detect(root(t, files))
	if err != nil {
		t.Fatal(err)
	}
	first := h.Group("torpor-abc123", "inst0001").settings(Limits{})[:2]
	if !strings.HasSuffix(first[0].path, "cpuset/torpor-abc123/cpuset.cpus") || first[0].value != "0-3" || !strings.HasSuffix(first[1].path, "inst0001/cpuset.cpus") {
		t.Errorf("got %v", first)
	}
}

func TestUsageIsReadFromEachLayout(t *testing.T) {
	v1Has := v1Files("memory", "cpu", "cpuacct", "pids", "freezer")
	for name, text := range map[string]string{
		"memory/p/g/memory.usage_in_bytes": "20971520\n", "memory/p/g/memory.stat": "rss 4096\nshmem 5242880\nswap 3145728\nswapcached 1048576\n", "memory/p/g/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
		"cpuacct/p/g/cpuacct.usage": "123456789\n", "pids/p/g/pids.current": "7\n", "pids/p/g/pids.events": "max 3\n",
	} {
		v1Has[name] = text
	}
	v2Has := map[string]string{
		"cgroup.controllers": "cpu memory pids", "p/g/memory.current": "20971520\n", "p/g/memory.swap.current": "3145728\n",
		"p/g/memory.stat": "anon 4096\nshmem 5242880\nswapcached 1048576\n", "p/g/memory.events": "low 0\noom 5\noom_kill 2\noom_group_kill 1\n",
		"p/g/cpu.stat": "usage_usec 123456\nuser_usec 1\n", "p/g/pids.current": "7\n", "p/g/pids.events": "max 3\n",
	}
	for _, c := range []struct {
		files map[string]string
		want  Usage
	}{{v1Has, Usage{20, 3, 123456789, 7}}, {v2Has, Usage{20, 3, 123456000, 7}}} {
		h, err := Detect(root(t, c.files))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := h.Group("p", "g").Usage(); err != nil || got != c.want {
			t.Errorf("%s: got %+v, %v, want %+v", h.Version(), got, err, c.want)
		}
		if got, err := h.Group("p", "g").Where(); err != nil || got != (Where{Resident: 20 << 20, SwapCached: 1 << 20, Shmem: 5 << 20, Swapped: 3 << 20}) {
			t.Errorf("%s: its memory is at %+v, %v", h.Version(), got, err)
		}
		if got, err := h.Group("p", "absent").Usage(); err != nil || got != (Usage{}) {
			t.Errorf("%s: a group that is not there has used %+v, %v", h.Version(), got, err)
		}
		if got, err := h.Group("p", "g").Strikes(); err != nil || got != (Strikes{OOMKills: 2, PidsRefused: 3}) {
			t.Errorf("%s: got %+v, %v", h.Version(), got, err)
		}
		if got, err := h.Group("p", "absent").Strikes(); err != nil || got != (Strikes{}) {
			t.Errorf("%s: a group that is not there was struck %+v, %v", h.Version(), got, err)
		}
	}
}

func TestOnlyTheKernelsFullWordIsFrozen(t *testing.T) {
	for _, c := range []struct {
		text   string
		v2     bool
		frozen bool
	}{
		{"FROZEN\n", false, true}, {"FREEZING\n", false, false}, {"THAWED\n", false, false},
		{"populated 1\nfrozen 1\n", true, true}, {"populated 1\nfrozen 0\n", true, false},
	} {
		if got := saysFrozen([]byte(c.text), c.v2); got != c.frozen {
			t.Errorf("%q: %v", c.text, got)
		}
	}
}
