// Package private has the rule for files with secrets: nobody but their owner can
// access them.
package private

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Allow has the exceptions to the rule of Check.
type Allow struct {
	// Root accepts a file that belongs to root.
	Root bool
	// Special also accepts pipes and devices. The mode and the owner of terminals
	// and of sockets are not checked.
	Special bool
}

// Check returns an error unless the file that info describes is a regular file of
// this user that nobody else can read or write.
func Check(info os.FileInfo, allow Allow) error {
	mode := info.Mode()
	stat, known := info.Sys().(*syscall.Stat_t)
	switch {
	case mode.IsDir():
		return errors.New("is a directory")
	case !mode.IsRegular() && !allow.Special:
		return errors.New("not a regular file")
	case mode&(os.ModeCharDevice|os.ModeSocket) != 0:
		return nil
	case mode.Perm()&0o077 != 0:
		return fmt.Errorf("other users have access to it (mode %04o); change the mode to 0600", mode.Perm())
	case known && int(stat.Uid) != os.Geteuid() && !(allow.Root && stat.Uid == 0):
		return errors.New("it belongs to another user")
	}
	return nil
}
