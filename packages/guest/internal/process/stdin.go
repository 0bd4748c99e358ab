package process

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"torpor/guest/internal/fault"
)

// WriteStdin copies the body into the program, as fast as it reads. It ends early when the caller goes away.
func (p *Process) WriteStdin(ctx context.Context, body io.Reader) (int64, error) {
	file, err := p.stdin()
	if err != nil {
		return 0, err
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	_ = file.SetWriteDeadline(time.Time{}) // fails only on a closed file, as the write will
	release := context.AfterFunc(ctx, func() { _ = file.SetWriteDeadline(time.Unix(1, 0)) })
	defer release()
	written, err := io.Copy(file, body)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed) || errors.Is(err, syscall.EIO) {
		return written, fault.Conflict("the standard input of process %q is closed; %d bytes were taken", p.called(), written)
	}
	return written, err
}

// CloseStdin gives the program its end of input. On a terminal that is ^D. Closing twice is fine.
func (p *Process) CloseStdin() error {
	if p.ask.Pty != nil {
		_, err := p.WriteStdin(context.Background(), &endOfTransmission{})
		return err
	}
	if !p.ask.Stdin {
		return p.noStdin()
	}
	p.closeInput()
	return nil
}

func (p *Process) stdin() (*os.File, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ask.Stdin && p.ask.Pty == nil {
		return nil, p.noStdin()
	}
	if p.exited || !p.inputOpen {
		return nil, fault.Conflict("the standard input of process %q is closed", p.called())
	}
	return p.input, nil
}

func (p *Process) noStdin() error {
	return fault.Conflict("process %q has no standard input: it was started without stdin", p.called())
}

func (p *Process) closeInput() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.inputOpen {
		p.input.Close()
	}
	p.inputOpen = false
}

type endOfTransmission struct{ sent bool }

func (e *endOfTransmission) Read(buffer []byte) (int, error) {
	if e.sent {
		return 0, io.EOF
	}
	e.sent = true
	buffer[0] = 4
	return 1, nil
}
