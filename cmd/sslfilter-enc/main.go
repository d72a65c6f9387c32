// Sslfilter-enc encrypts and decrypts files with a static key or a passphrase. Unlike
// "openssl enc", it authenticates them: a file that was altered or truncated is an error.
// With -openssl it reads and writes the format of "openssl enc -pbkdf2", which
// authenticates nothing.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/seed-014b8713/sslfilter"
)

const usage = `Usage: sslfilter-enc [-d] (-key-file FILE | -passphrase-file FILE) [options]

Encrypts standard input, or the file of -in, to standard output, or to the file of
-out. With -d it decrypts.

    (umask 077; openssl rand -hex 32 >secret.key)
    sslfilter-enc -key-file secret.key -in plain -out sealed
    sslfilter-enc -d -key-file secret.key -in sealed -out plain

A file with a key or a passphrase must not be accessible to other users. It can be
/dev/stdin: the first line is then the key or the passphrase, and the data follow.

The output is written to a temporary file with mode 0600, which is renamed to the file
of -out when all of the input has been processed and, with -d, checked. On standard
output, data appear before the whole input has been checked: use them only if the exit
status is 0. After an error it is 1.

docs/direct-cipher.md describes the format. WARNING: -openssl selects the format of
"openssl enc -pbkdf2", which authenticates nothing.

`

func main() {
	status := run(os.Args[1:], standard{os.Stdin, "standard input"}, standard{os.Stdout, "standard output"}, os.Stderr)
	if err := os.Stdout.Close(); err != nil && status == 0 { // network file systems report some errors only now
		fmt.Fprintln(os.Stderr, "sslfilter-enc:", err)
		status = 1
	}
	os.Exit(status)
}

// settings are the values of the flags.
type settings struct {
	decrypt, openssl              bool
	keyFile, passphraseFile       string
	cipher, digest, input, output string
	iterations                    int
}

// run returns the exit status: 0, 1 after an error, 2 for wrong arguments.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var s settings
	flags := s.flags()
	flags.SetOutput(stderr)
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	switch {
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "sslfilter-enc: unexpected argument %q\n", flags.Arg(0))
		return 2
	case (s.keyFile == "") == (s.passphraseFile == ""), s.openssl && s.passphraseFile == "":
		fmt.Fprintln(stderr, "sslfilter-enc: one of -key-file and -passphrase-file is needed, and -openssl needs -passphrase-file; -help explains")
		return 2
	case s.keyFile != "" && (s.digest != "" || s.iterations != 0):
		fmt.Fprintln(stderr, "sslfilter-enc: -md and -iter need -passphrase-file: they say how the key is derived from a passphrase")
		return 2
	}
	if err := s.convert(stdin, stdout); err != nil {
		fmt.Fprintln(stderr, "sslfilter-enc:", err)
		return 1
	}
	return 0
}

// flags defines the flags. The options in the manual page are generated from them.
func (s *settings) flags() *flag.FlagSet {
	flags := flag.NewFlagSet("sslfilter-enc", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	flags.BoolVar(&s.decrypt, "d", false, "decrypt")
	flags.StringVar(&s.keyFile, "key-file", "", "`file` whose first line is the key: 32 bytes as 64 hexadecimal digits")
	flags.StringVar(&s.passphraseFile, "passphrase-file", "", "`file` whose first line is the passphrase")
	flags.StringVar(&s.cipher, "cipher", "", "`name` of the cipher, which must be the same on both sides (default AES-256-GCM; required with -openssl)")
	flags.BoolVar(&s.openssl, "openssl", false, "use the format of \"openssl enc -pbkdf2\", which is not authenticated; needs -cipher and -passphrase-file")
	flags.StringVar(&s.digest, "md", "", "hash `function` of PBKDF2 (default SHA256)")
	flags.IntVar(&s.iterations, "iter", 0, "`number` of iterations of PBKDF2 (default 10000 with -openssl, otherwise 600000); without -openssl, -md or -iter selects PBKDF2 instead of scrypt")
	flags.StringVar(&s.input, "in", "", "`file` to read (default standard input)")
	flags.StringVar(&s.output, "out", "", "`file` to write (default standard output)")
	return flags
}

// options returns the options of the cipher. It reads the file with the key; NewCipher
// reads the file with the passphrase.
func (s *settings) options() (o sslfilter.CipherOptions, err error) {
	o = sslfilter.CipherOptions{Client: !s.decrypt, Cipher: s.cipher, Digest: s.digest, Iterations: s.iterations}
	if s.openssl {
		o.Format = sslfilter.CipherEnc
	}
	if s.passphraseFile != "" {
		o.Passphrase = func() ([]byte, error) { return readPassphrase(s.passphraseFile, s.openssl) }
		return o, nil
	}
	o.Key, err = readKey(s.keyFile)
	return o, err
}

// convert encrypts or decrypts in, or the file of -in, to out, or to the file of -out.
func (s *settings) convert(in io.Reader, out io.Writer) error {
	o, err := s.options()
	if err != nil {
		return err
	}
	cipher, err := sslfilter.NewCipher(o)
	clear(o.Key)
	if err != nil {
		return err
	}
	defer cipher.Close()
	name := "standard input"
	if s.input != "" {
		file, err := open(s.input)
		if err != nil {
			return err
		}
		defer file.Close()
		in, name = file, s.input
	}
	write := func(out io.Writer) error { return inFile(name, pump(cipher, s.decrypt, in, out)) }
	if s.output == "" {
		return write(out)
	}
	return writeFile(s.output, write)
}

// inFile adds the name of the input to an error of the cipher. The errors of the library
// are about a peer and its connection, which are a file here.
func inFile(name string, err error) error {
	var cut *sslfilter.TruncatedError
	var bad *sslfilter.Error
	switch {
	case errors.As(err, &cut):
		what := "without the record that ends its stream"
		if cut.InHandshake {
			what = "before its first record (does it have this key, cipher and format?)"
		}
		return fmt.Errorf("%s: the file ends %s", name, what)
	case errors.As(err, &bad):
		text := strings.TrimPrefix(err.Error(), "sslfilter: ")
		return fmt.Errorf("%s: %s", name, strings.ReplaceAll(text, "the peer", "the file"))
	case errors.Is(err, errMore):
		return fmt.Errorf("%s: %w", name, err)
	}
	return err
}

var errMore = errors.New("there are more bytes after the end of the sealed stream")

// pump encrypts or decrypts all of in, and writes the result to out.
func pump(cipher *sslfilter.Cipher, decrypt bool, in io.Reader, out io.Writer) error {
	buf, result := make([]byte, 256<<10), []byte(nil)
	for {
		n, readErr := in.Read(buf)
		if readErr != nil && readErr != io.EOF {
			return readErr // a folder, for example: before anything is written
		}
		result = result[:0]
		var err error
		if decrypt {
			result, err = cipher.Receive(result, buf[:n])
		} else if err = cipher.Send(buf[:n]); err == nil {
			result = cipher.Outgoing(result)
			err = cipher.Err()
		}
		if _, writeErr := out.Write(result); writeErr != nil {
			return writeErr
		}
		switch {
		case err == io.EOF: // the sealed stream has ended
			return onlyEnd(cipher, in)
		case err != nil:
			return err
		case readErr == io.EOF:
			return end(cipher, decrypt, out)
		}
	}
}

// end writes the last output after the end of the input.
func end(cipher *sslfilter.Cipher, decrypt bool, out io.Writer) error {
	var last []byte
	var err error
	if decrypt {
		if err = cipher.ReceiveEOF(); err == io.EOF {
			last, err = cipher.Finish(nil)
		}
	} else if err = cipher.CloseWrite(); err == nil {
		last = cipher.Outgoing(nil)
		err = cipher.Err()
	}
	if err != nil {
		return err
	}
	_, err = out.Write(last)
	return err
}

// onlyEnd returns an error if something follows the end of the stream.
func onlyEnd(cipher *sslfilter.Cipher, in io.Reader) error {
	rest, err := cipher.Detach()
	if err != nil {
		return err
	}
	if n, _ := io.ReadFull(in, make([]byte, 1)); n+len(rest) > 0 {
		return errMore
	}
	return nil
}
