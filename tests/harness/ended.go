package harness

// Ended is closed when the launcher has ended.
func (s *Service) Ended() <-chan struct{} { return s.ended }
