package private

import (
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// file describes a file that need not exist.
type file struct {
	os.FileInfo
	mode os.FileMode
	uid  uint32
}

func (f file) Mode() os.FileMode { return f.mode }

func (f file) Sys() any { return &syscall.Stat_t{Uid: f.uid} }

// Only a regular file of this user with a private mode is accepted, apart from the
// exceptions that the caller allows.
func TestCheck(t *testing.T) {
	own := uint32(os.Geteuid())
	var root, special = Allow{Root: true}, Allow{Special: true}
	for _, c := range []struct {
		file  file
		allow Allow
		want  string
	}{
		{file{mode: 0o600, uid: own}, Allow{}, ""},
		{file{mode: 0o400, uid: own}, Allow{}, ""},
		{file{mode: 0o640, uid: own}, Allow{}, "(mode 0640)"},
		{file{mode: 0o620, uid: own}, root, "(mode 0620)"},
		{file{mode: 0o604, uid: own}, special, "(mode 0604)"},
		{file{mode: 0o601, uid: own}, Allow{}, "(mode 0601)"},
		{file{mode: 0o600, uid: own + 1}, Allow{}, "another user"},
		{file{mode: 0o600, uid: own + 1}, Allow{Root: true, Special: true}, "another user"},
		{file{mode: 0o600, uid: 0}, root, ""},
		{file{mode: 0o640, uid: 0}, root, "(mode 0640)"},
		{file{mode: os.ModeDir | 0o700, uid: own}, Allow{}, "is a directory"},
		{file{mode: os.ModeDir | 0o700, uid: own}, special, "is a directory"},
		{file{mode: os.ModeNamedPipe | 0o600, uid: own}, Allow{}, "not a regular file"},
		{file{mode: os.ModeNamedPipe | 0o600, uid: own}, special, ""},
		{file{mode: os.ModeNamedPipe | 0o620, uid: own}, special, "(mode 0620)"},
		{file{mode: os.ModeNamedPipe | 0o600, uid: own + 1}, special, "another user"},
		{file{mode: os.ModeDevice | 0o660, uid: own}, special, "(mode 0660)"},
		{file{mode: os.ModeDevice | os.ModeCharDevice | 0o620, uid: own + 1}, special, ""},
		{file{mode: os.ModeDevice | os.ModeCharDevice | 0o600, uid: own}, root, "not a regular file"},
		{file{mode: os.ModeSocket | 0o777, uid: own + 1}, special, ""},
		{file{mode: os.ModeSocket | 0o600, uid: own}, root, "not a regular file"},
	} {
		t.Run(fmt.Sprint(c.file.mode, c.file.uid, c.allow), func(t *testing.T) {
			err := Check(c.file, c.allow)
			if c.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.want)
			}
		})
	}
	if own != 0 {
		require.Error(t, Check(file{mode: 0o600, uid: 0}, special), "a file of root")
	}
}
