package wheel

import (
	"errors"
	"io"

	"github.com/seed-014b8713/sslfilter/filter"
)

// reader reads one block from conn each time the event loop asks for one. It ends
// after the first error.
func (w *ReadWrite) reader() {
	var buf []byte
	for {
		select {
		case <-w.more:
		case <-w.closed:
			return
		}
		if buf == nil {
			buf = make([]byte, readSize)
		}
		n, err := w.conn.Read(buf)
		select {
		case w.input <- read{buf[:n], err}:
		case <-w.closed:
			return
		}
		if err != nil {
			return
		}
	}
}

// writer writes the output of the stack to conn. Output that was put during a write
// goes into the next write together.
func (w *ReadWrite) writer() {
	var buf []byte
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		for !w.dirty && !w.shut {
			w.write.Wait()
		}
		if w.shut {
			return
		}
		w.dirty = false
		buf = w.stack.Outgoing(buf[:0])
		ends := w.last && w.stack.Flushed()
		if len(buf) == 0 && !ends {
			w.poke() // the stack may have an error, and the result of wantsInput may have changed
			continue
		}
		w.writing = len(buf)
		w.mu.Unlock()
		err := w.writeAll(buf)
		if err == nil && ends {
			err = closeWrite(w.conn)
		}
		if cap(buf) > maxIdle {
			buf = nil
		}
		w.mu.Lock()
		w.writing = 0
		w.lastDone = ends && err == nil
		if err != nil {
			w.writeErr, w.sayWrite = err, true
		}
		w.marks()
		w.poke()
		if err != nil || ends {
			return
		}
	}
}

func (w *ReadWrite) writeAll(b []byte) error {
	for len(b) > 0 {
		n, err := w.conn.Write(b)
		if err != nil {
			return err
		}
		if n <= 0 || n > len(b) {
			return io.ErrShortWrite
		}
		b = b[n:]
	}
	return nil
}

func closeWrite(conn io.ReadWriteCloser) error {
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// loop feeds the stack what the reader has read, and calls the handlers.
func (w *ReadWrite) loop() {
	reading := false // the reader is reading a block
	for {
		for w.event() {
		}
		more := w.more
		if reading || !w.wantsInput() {
			more = nil
		}
		select { // no default case: the loop sleeps until there is something to do
		case more <- struct{}{}:
			reading = true
		case r := <-w.input:
			reading = r.err != nil // after an error the reader has ended
			w.receive(r)
		case <-w.wake:
		case <-w.closed:
			return
		}
	}
}

// wantsInput reports whether the reader may read another block. It may if input is
// wanted and neither input nor output is at its bound, because input may cause
// more output. It may also read while output is at its bound if the writer cannot
// reduce it: then the output waits for input, such as the rest of a handshake, or
// the error that explains a failed write.
func (w *ReadWrite) wantsInput() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.shut || w.paused || w.noInput || w.readErr != nil || len(w.unread) > 0 {
		return false
	}
	return w.octets() < MaxOutput || w.writing == 0 && !w.dirty || w.writeErr != nil
}

// receive feeds the stack what was read.
func (w *ReadWrite) receive(r read) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.shut || w.noInput {
		return
	}
	w.unread = r.data
	w.connErr = r.err
	w.feed()
}

// feed passes unread input to the stack. ErrBufferFull means that the codec waits
// for an answer to earlier input. Next returns every other error too.
func (w *ReadWrite) feed() {
	if len(w.unread) > 0 {
		if errors.Is(w.stack.Receive(w.unread), filter.ErrBufferFull) {
			return
		}
		w.unread = nil
	}
	if w.connErr == io.EOF {
		w.stack.ReceiveEOF()
	}
	w.send()
}

// event calls one handler if an event is due, and reports whether it did.
func (w *ReadWrite) event() bool {
	w.mu.Lock()
	call := w.next()
	w.mu.Unlock()
	if call == nil {
		return false
	}
	call()
	return true
}

// next returns a function that calls the handler for the next event, or nil if no
// event is due.
func (w *ReadWrite) next() func() {
	switch {
	case w.shut:
		return nil
	case w.sayWrite:
		w.sayWrite = false
		err := w.writeErr
		return func() { w.events.Error(w, OpWrite, err) }
	case w.sayHigh:
		w.sayHigh = false
		return w.tell(w.events.High)
	case w.sayLow:
		w.sayLow = false
		return w.tell(w.events.Low)
	case w.unsaid && w.flushed():
		w.unsaid = false
		return w.tell(w.events.Flushed)
	case w.paused || w.noInput || w.readErr != nil:
		return nil
	}
	if len(w.unread) > 0 {
		w.feed()
	}
	waiting := w.stack.Waiting()
	rec, err := w.stack.Next()
	if w.stack.Waiting() > waiting { // the codec has answered by itself
		w.send()
	}
	if rec != nil {
		return func() { w.events.Input(w, rec) }
	}
	if err == nil && len(w.unread) == 0 {
		err = w.connErr
	}
	if err == nil {
		return nil
	}
	w.readErr = err
	return func() { w.events.Error(w, OpRead, err) }
}

// tell returns a function that calls handler, if that is not nil.
func (w *ReadWrite) tell(handler func(*ReadWrite)) func() {
	return func() {
		if handler != nil {
			handler(w)
		}
	}
}

// flushed reports whether all output has been written.
func (w *ReadWrite) flushed() bool {
	return w.writing == 0 && w.stack.Flushed() && w.writeErr == nil && (w.lastDone || !w.last)
}
