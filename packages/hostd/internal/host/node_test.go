package host

import "testing"

func TestPressureIsTheShareThatTheKernelTellsOf(t *testing.T) {
	if got := pressureIn("some avg10=12.50 avg60=3.00 avg300=1.00 total=171101923\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n"); got != 0.125 {
		t.Errorf("got %v", got)
	}
	if got := pressureIn(""); got != 0 {
		t.Errorf("a kernel that does not tell: %v", got)
	}
}
