package main

import (
	"net"
	"strconv"

	"golang.org/x/sys/unix"
)

var constant = []byte("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nALLOW")

// serve answers whatever comes with the same answer, as cheaply as can be: what the client reaches
// against this is as much as it can tell of any server.
func serve(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	listening, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	if err = unix.Bind(listening, &unix.SockaddrInet4{Port: number, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	if err = unix.Listen(listening, 128); err != nil {
		return err
	}
	poll, err := unix.EpollCreate1(0)
	if err != nil {
		return err
	}
	watch := func(socket int) error {
		event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(socket)}
		return unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, socket, &event)
	}
	if err = watch(listening); err != nil {
		return err
	}
	buffer := make([]byte, answerBytes)
	for events := make([]unix.EpollEvent, 64); ; {
		ready, err := unix.EpollWait(poll, events, -1)
		if err != nil && err != unix.EINTR {
			return err
		}
		for _, event := range events[:max(ready, 0)] {
			socket := int(event.Fd)
			if socket == listening {
				accepted, _, err := unix.Accept(listening)
				if err != nil || watch(accepted) != nil {
					return err
				}
			} else if count, err := unix.Read(socket, buffer); err != nil || count == 0 {
				unix.Close(socket)
			} else if _, err := unix.Write(socket, constant); err != nil {
				unix.Close(socket)
			}
		}
	}
}
