package failpoint

import "testing"

func TestFailpointsAreReadOrRefused(t *testing.T) {
	points, err := Parse(" net.create:after=exit,sandbox.pause:before=error ,")
	if err != nil || len(points.what) != 2 || points.what["net.create:after"] != "exit" {
		t.Errorf("got %v, %v", points, err)
	}
	if points.Reach("sandbox.pause", "before") == nil || points.Reach("sandbox.pause", "after") != nil {
		t.Error("the wrong moment fails")
	}
	for _, bad := range []string{"x", "x=exit", "x:during=exit", "x:after=explode", ":after=exit"} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
