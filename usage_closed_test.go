package sslfilter_test

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// arguments returns zero values for a call of method: nil slices, empty names.
func arguments(method reflect.Type) (args []reflect.Value) {
	n := method.NumIn()
	if method.IsVariadic() {
		n--
	}
	for i := range n {
		args = append(args, reflect.Zero(method.In(i)))
	}
	return args
}

func closedCipher(t *testing.T, o sslfilter.CipherOptions) *sslfilter.Cipher {
	c := newCipher(t, o)
	require.NoError(t, c.Send([]byte("hello")))
	require.NoError(t, c.CloseWrite())
	require.NoError(t, c.Close())
	return c
}

// Every method of a closed Filter or Ctx, or of a zero value, can be called. It returns
// ErrClosed if it returns an error.
func TestUsageOfClosedAndZeroValues(t *testing.T) {
	closed := testkit.Ctx(t, testkit.Server())
	require.NoError(t, closed.Close())
	failed := testkit.Filter(t, testkit.Server())
	_, err := failed.Receive(nil, []byte("GET / HTTP/1.1\r\n\r\n"))
	require.Error(t, err)
	require.NoError(t, failed.Close())
	require.Equal(t, err, failed.Err(), "Err keeps the error that ended the connection")
	detached := testkit.Connect(t, testkit.Server(), testkit.Client())
	require.NoError(t, detached.Client.CloseWrite())
	detached.Transfer()
	require.NoError(t, detach(detached.Server.Filter))
	require.NoError(t, detached.Server.Close())

	isError := reflect.TypeFor[error]()
	for name, object := range map[string]any{
		"closed Filter": closedFilter(t), "closed client": func() any {
			f := testkit.Filter(t, testkit.Client())
			f.Close()
			return f
		}(),
		"Filter that failed and was closed": failed, "Filter that was detached and closed": detached.Server.Filter,
		"closed Filter with CACRL": func() any {
			f := testkit.Filter(t, testkit.Asking(crl(testkit.PKI("crl.pem"))))
			f.Close()
			return f
		}(),
		"closed Filter with a chooser": func() any {
			f := sslfilter.NewServerFilter(always(closed))
			f.Close()
			return f
		}(),
		"zero Filter":   new(sslfilter.Filter),
		"closed Cipher": closedCipher(t, sslfilter.CipherOptions{Client: true, Key: staticKey}), "zero Cipher": new(sslfilter.Cipher),
		"closed Cipher of CipherEnc": closedCipher(t, sslfilter.CipherOptions{Format: sslfilter.CipherEnc, Cipher: "aes-128-ctr", Passphrase: phrase("x")}),
		"closed Ctx":                 closed, "zero Ctx": new(sslfilter.Ctx), "nil Ctx": (*sslfilter.Ctx)(nil),
	} {
		t.Run(name, func(t *testing.T) {
			v := reflect.ValueOf(object)
			require.NotZero(t, v.NumMethod())
			for i := range v.NumMethod() {
				method, call := v.Type().Method(i).Name, v.Method(i)
				for range 2 {
					var results []reflect.Value
					require.NotPanics(t, func() { results = call.Call(arguments(call.Type())) }, method)
					switch last := len(results) - 1; {
					case last < 0 || results[last].Type() != isError || method == "Err":
					case method == "Close":
						require.Nil(t, results[last].Interface(), "Close can be called again")
					default:
						require.Equal(t, sslfilter.ErrClosed, results[last].Interface(), method)
					}
				}
			}
		})
	}
}
