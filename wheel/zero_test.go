package wheel_test

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/filter"
	"github.com/seed-014b8713/sslfilter/wheel"
)

// New returns an error without a connection. The wheel would panic in one of its
// goroutines, and the caller could not recover from that.
func TestNothingIsGiven(t *testing.T) {
	events := wheel.Events{Input: func(*wheel.ReadWrite, any) {}, Error: func(*wheel.ReadWrite, string, error) {}}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	_, err := wheel.New(nil, nil, events)
	require.Error(t, err)
	_, err = wheel.New(a, nil, wheel.Events{})
	require.Error(t, err)
	w, err := wheel.New(a, nil, events)
	require.NoError(t, err)
	for call, err := range map[string]error{
		"Push":            w.Push(nil),
		"Do":              w.Do(nil),
		"SetFilter":       w.SetFilter(nil),
		"SetInputFilter":  w.SetInputFilter(nil),
		"SetOutputFilter": w.SetOutputFilter(nil),
		"Put":             w.Put(nil),
	} {
		require.Error(t, err, call)
	}
	require.NoError(t, w.Close())
	w.Wait()
}

// The methods of a wheel that was not made by New.
func TestZeroWheel(t *testing.T) {
	w := new(wheel.ReadWrite)
	for call, err := range map[string]error{
		"Put":             w.Put("x"),
		"Push":            w.Push(nil),
		"Pop":             func() error { _, err := w.Pop(); return err }(),
		"Do":              w.Do(func(*filter.Stack) error { return nil }),
		"SetFilter":       w.SetFilter(new(filter.Line)),
		"SetInputFilter":  w.SetInputFilter(new(filter.Line)),
		"SetOutputFilter": w.SetOutputFilter(new(filter.Line)),
		"ShutdownOutput":  w.ShutdownOutput(),
	} {
		require.ErrorIs(t, err, wheel.ErrClosed, call)
	}
	w.PauseInput()
	w.ResumeInput()
	require.NoError(t, w.ShutdownInput())
	require.Zero(t, w.OutOctets())
	require.False(t, w.AboveHighMark())
	require.NoError(t, w.Close())
	w.Wait()
}

// A wheel works with a zero Stack.
func TestWheelOfAZeroStack(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	got := make(chan any, 1)
	w, err := wheel.New(a, new(filter.Stack), wheel.Events{
		Input: func(_ *wheel.ReadWrite, rec any) { got <- rec },
		Error: func(*wheel.ReadWrite, string, error) {},
	})
	require.NoError(t, err)
	defer w.Wait()
	defer w.Close()
	_, err = b.Write([]byte("x"))
	require.NoError(t, err)
	require.Equal(t, []byte("x"), <-got)
}
