package version

import (
	"runtime/debug"
	"testing"
)

func TestTheLinkersReleaseGoesBeforeWhatTheToolchainRecorded(t *testing.T) {
	recorded := &debug.BuildInfo{Main: debug.Module{Version: "v0.3.1-0.20260102030405-0123456789ab+dirty"}}
	for _, row := range []struct {
		release string
		info    *debug.BuildInfo
		want    string
	}{
		{"v1.2.3", recorded, "v1.2.3"},
		{"v1.2.3", nil, "v1.2.3"},
		{"", recorded, recorded.Main.Version},
		{"", &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, "devel"},
		{"", &debug.BuildInfo{}, "devel"},
		{"", nil, "devel"},
	} {
		if got := choose(row.release, row.info); got != row.want {
			t.Errorf("choose(%q, %v) = %q; want %q", row.release, row.info, got, row.want)
		}
	}
}

func TestAProgramAlwaysHasAVersion(t *testing.T) {
	if String() == "" {
		t.Error(`String() = ""; want a version`)
	}
}
