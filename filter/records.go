package filter

// Records is the Codec for programs that treat each TLS record as a message.
// Each record of the Stack is a []byte. One Send makes one TLS record, and one
// TLS record from the peer is one record of Next, however the network splits the
// bytes. More than 16384 bytes, the most that a TLS record can hold, become
// several records, as in the original. An empty Send sends no record.
//
// A program whose only filter was POE::Filter::SSL saw one event for each put
// of its peer, and some programs rely on that. TLS does not promise it: a
// proxy between the two may join or split records. A new protocol should
// therefore mark the end of a message itself, as Line does. Records is for
// peers that cannot be changed.
//
// Records are those of the top filter if that is TLS (a Filter with a method
// HandshakeDone, like *sslfilter.Filter). In any other Stack one call of Receive
// is one record, as one read is in the original. Data that is sent before the
// handshake is done waits in the Stack, so that it keeps its records too.
//
// Corresponds to POE::Filter::SSL without another filter above it.
type Records struct{}

// Decode takes all of data.
func (Records) Decode(data []byte, seen int) (any, int, error) { return Stream{}.Decode(data, seen) }

// Encode appends a []byte or string.
func (Records) Encode(dst []byte, rec any) ([]byte, error) {
	switch rec.(type) {
	case []byte, string:
		return Stream{}.Encode(dst, rec)
	}
	return dst, recordType("Records", rec, "[]byte and string")
}

// Partial returns 0.
func (Records) Partial() int { return 0 }

func (Records) keepsRecords() {}

// keepsRecords reports whether a Decoder or Encoder is Records.
func keepsRecords(codec any) bool {
	_, ok := codec.(interface{ keepsRecords() })
	return ok
}

// handshaker is a Filter that speaks TLS.
type handshaker interface{ HandshakeDone() bool }

// recordCut finds the boundaries of the records in the bytes that a TLS filter
// gets. It only reads their headers (RFC 8446 section 5.1). If the input is not
// TLS, the boundaries are wrong, but then the filter rejects the input.
type recordCut struct {
	header [recordHeader]byte
	have   int // bytes of header that have arrived
	left   int // bytes of the record that have not arrived
}

const recordHeader = 5 // type, version in two bytes, length in two bytes

// next returns how much of data belongs to the current record, and whether the
// record is complete then.
func (c *recordCut) next(data []byte) (n int, complete bool) {
	if c.have < recordHeader {
		n = copy(c.header[c.have:], data)
		if c.have += n; c.have < recordHeader {
			return n, false
		}
		c.left = int(c.header[3])<<8 | int(c.header[4])
	}
	body := min(c.left, len(data)-n)
	if c.left -= body; c.left > 0 {
		return n + body, false
	}
	c.have = 0
	return n + body, true
}

// skip follows all of data.
func (c *recordCut) skip(data []byte) {
	for len(data) > 0 {
		n, _ := c.next(data)
		data = data[n:]
	}
}

// apart holds data that was sent record by record and that the top filter does not
// have yet.
type apart struct {
	data  []byte
	ends  []uint32 // where each record ends in data; MaxWaiting bounds them
	taken int      // bytes of data that the top filter has
}

func (a *apart) len() int { return len(a.data) - a.taken }

func (a *apart) add(b []byte) {
	a.data = append(a.data, b...)
	a.ends = append(a.ends, uint32(len(a.data)))
}

// first returns the bytes of the oldest record.
func (a *apart) first() []byte { return a.data[a.taken:a.ends[0]] }

// take drops the first n bytes, which are at most the oldest record.
func (a *apart) take(n int) {
	if a.taken += n; a.taken < int(a.ends[0]) {
		return
	}
	if a.ends = a.ends[1:]; len(a.ends) == 0 {
		*a = apart{}
	}
}

// sendApart accepts b as a record of its own.
func (s *Stack) sendApart(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	s.waiting += len(b)
	if len(s.layers) == 0 && s.apart.len() == 0 {
		s.out = append(s.out, b...)
		return nil
	}
	s.apart.add(b)
	s.drain()
	return s.err
}

// giveApart gives the oldest record to the top filter if that filter can turn it
// into a TLS record now. It reports whether it did.
func (s *Stack) giveApart() bool {
	if s.apart.len() == 0 || len(s.held) > 0 || s.err != nil {
		return false
	}
	if len(s.layers) == 0 {
		b := s.apart.first()
		s.out = append(s.out, b...)
		s.apart.take(len(b))
		return true
	}
	top := &s.layers[len(s.layers)-1]
	if tls, ok := top.Filter.(handshaker); ok && top.Err() == nil && !(tls.HandshakeDone() && top.Flushed()) {
		return false
	}
	n, err := top.accept(s.apart.first())
	s.apart.take(n)
	if err != nil && top.Err() != nil {
		s.fail(err)
	}
	return n > 0
}

// feedRecords gives data to the top filter, one TLS record in each call, and
// notes which plaintext belongs to which record.
func (s *Stack) feedRecords(l *layer, data []byte) {
	for len(data) > 0 && s.err == nil {
		n, complete := l.cut.next(data)
		var err error
		l.decoded, err = l.Receive(l.decoded[:0], data[:n])
		s.note(l, err)
		s.arrived(l.decoded)
		if complete {
			s.cutHere()
		}
		data = data[n:]
	}
	if cap(l.decoded) > maxIdle {
		l.decoded = nil
	}
}

// cuts divides the data that a Stack has decoded into records.
type cuts struct {
	lengths []uint32 // of records that are complete, oldest first; MaxUnread bounds them
	total   int      // the sum of lengths
}

// cutHere completes the record at the end of plain, if dec keeps records.
func (s *Stack) cutHere() {
	if n := len(s.plain) - s.off - s.cuts.total; n > 0 && keepsRecords(s.dec) {
		s.cuts.lengths = append(s.cuts.lengths, uint32(n))
		s.cuts.total += n
	}
}

// undecoded returns the data that the decoder may look at: all of plain, or its
// first record if dec keeps records.
func (s *Stack) undecoded() []byte {
	rest := s.plain[s.off:]
	if len(s.cuts.lengths) > 0 {
		rest = rest[:s.cuts.lengths[0]]
	}
	return rest
}

// took records that the decoder has taken n bytes of plain.
func (c *cuts) took(n int) {
	switch {
	case len(c.lengths) == 0:
	case len(c.lengths) > 1 && n == int(c.lengths[0]):
		c.total -= n
		c.lengths = c.lengths[1:]
	case n > 0: // the last record, or all of them
		*c = cuts{}
	}
}
