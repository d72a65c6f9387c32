package main

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

// writeFile calls write with the file name as the output. Descriptors, devices and pipes
// are written directly. For a regular file, the output goes to a temporary file, which is
// renamed to name when it is complete. If write fails, or a signal ends the program before,
// the temporary file is removed, and an existing file of this name stays as it was.
func writeFile(name string, write func(io.Writer) error) error {
	file, err := openStream(name)
	if err != nil {
		return err
	}
	if file != nil {
		return errors.Join(write(file), file.Close())
	}
	target, err := follow(name)
	if err != nil {
		return err
	}
	return replaceFile(target, write)
}

// openStream opens a descriptor, a device or a pipe. For a regular file, and for a name
// that does not exist, it returns nil.
func openStream(name string) (*os.File, error) {
	if n, ok := descriptor(name); ok {
		return duplicate(n, name)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().IsRegular() {
		return nil, nil // an error of Stat is reported by follow or replaceFile
	}
	return os.OpenFile(name, os.O_WRONLY, 0)
}

func replaceFile(name string, write func(io.Writer) error) (err error) {
	signals := make(chan os.Signal, 1)
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) { // nohup(1) ignores SIGHUP
			signal.Notify(signals, s)
		}
	}
	defer signal.Stop(signals)
	file, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return named(err, name)
	}
	go func() {
		s := <-signals
		os.Remove(file.Name())
		signal.Reset(s)
		syscall.Kill(os.Getpid(), s.(syscall.Signal)) // so that the parent sees which signal ended the program
	}()
	defer func() {
		if err != nil {
			os.Remove(file.Name())
		}
	}()
	if err := errors.Join(named(write(file), name), file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), name)
}

// named replaces the name of the temporary file in an error with the name of the output.
func named(err error, name string) error {
	cause, ok := err.(*os.PathError)
	if ok && filepath.Dir(cause.Path) == filepath.Dir(name) && cause.Op != "read" {
		return &os.PathError{Op: cause.Op, Path: name, Err: cause.Err}
	}
	return err
}
