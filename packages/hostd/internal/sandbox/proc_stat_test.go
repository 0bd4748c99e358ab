package sandbox

import (
	"os"
	"testing"
)

func TestAProcessIsNamedByItsStart(t *testing.T) {
	if startTicks(os.Getpid()) == 0 {
		t.Error("this process has no start")
	}
	if startTicks(1<<22+1) != 0 {
		t.Error("a process that cannot be has a start")
	}
	fields := fieldsAfterName("12 (a) b (c)) S 1 2 3")
	if fields[0] != "S" || fields[3] != "3" {
		t.Errorf("got %v", fields)
	}
}
