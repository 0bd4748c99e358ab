package process

import "sync"

// spare keeps one set of pipes made beforehand: making them takes a dozen system calls, which gVisor makes dear.
type spare struct {
	mu     sync.Mutex
	kept   *readyEnds
	making bool
}

// readyEnds are the two sides of a process to be.
type readyEnds struct {
	theirs ends
	pumps  *pumps
}

// ends gives the set made beforehand where it fits, else a new one.
func (s *spare) ends(ask Ask, uid uint32) (*readyEnds, error) {
	if ask.Pty != nil || ask.Stdin {
		return makeEnds(ask, uid)
	}
	s.mu.Lock()
	taken := s.kept
	s.kept = nil
	s.mu.Unlock()
	if taken != nil {
		return taken, nil
	}
	return makeEnds(ask, uid)
}

// refill makes the next set; called when nobody waits. A failure leaves none.
func (s *spare) refill() {
	s.mu.Lock()
	if s.kept != nil || s.making {
		s.mu.Unlock()
		return
	}
	s.making = true
	s.mu.Unlock()
	made, err := makeEnds(Ask{}, 0)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.making = false
	if err == nil {
		s.kept = made
	}
}

func makeEnds(ask Ask, uid uint32) (*readyEnds, error) {
	theirs, mine, err := openEnds(ask, uid)
	if err != nil {
		return nil, err
	}
	opened, err := openPumps(mine)
	if err != nil {
		theirs.close()
		mine.close()
		return nil, err
	}
	return &readyEnds{theirs: theirs, pumps: opened}, nil
}
