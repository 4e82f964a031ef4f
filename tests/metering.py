"""What the tests of meters share: the sources of an open meter, and a reading by a source's id."""


def sources(meter):
    return [channel.source for channel in meter.channels]


def read(meter, name):
    (channel,) = [channel for channel in meter.channels if channel.source.id == name]
    return channel.read()
