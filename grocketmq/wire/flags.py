"""Bit fields of the protocol, each bit a mask.

Source: Apache RocketMQ 5.3.3, module remoting, class ``RemotingCommand``; module common, classes ``MessageSysFlag``,
``PullSysFlag``, ``CompressionType``.
"""

from __future__ import annotations

from enum import IntEnum

from grocketmq.errors import RemoteProtocolError

__all__ = ["CompressionType", "MessageSysFlag", "PullSysFlag", "RpcFlag", "pull_sys_flag"]


class RpcFlag:
    """Bits of a command's ``flag``."""

    RESPONSE = 1 << 0
    ONEWAY = 1 << 1


class MessageSysFlag:
    """Bits of a message's ``sys_flag``."""

    COMPRESSED = 1 << 0
    MULTI_TAGS = 1 << 1
    TRANSACTION_PREPARED = 1 << 2
    TRANSACTION_COMMIT = 1 << 3
    #: The two transaction bits; both of them set mean a rollback, none of them no transaction.
    TRANSACTION_MASK = TRANSACTION_PREPARED | TRANSACTION_COMMIT
    TRANSACTION_ROLLBACK = TRANSACTION_PREPARED | TRANSACTION_COMMIT
    BORN_HOST_V6 = 1 << 4
    STORE_HOST_V6 = 1 << 5
    NEED_UNWRAP = 1 << 6
    INNER_BATCH = 1 << 7
    #: Three bits that number a :class:`CompressionType`.
    COMPRESSION_TYPE_MASK = 1 << 8 | 1 << 9 | 1 << 10


class CompressionType(IntEnum):
    """How a body is compressed; the number stands in three bits of ``sys_flag``."""

    LZ4 = 1
    ZSTD = 2
    ZLIB = 3

    @property
    def sys_flag(self) -> int:
        """The type's bits; :attr:`MessageSysFlag.COMPRESSED` is not among them."""
        return self << 8

    @classmethod
    def of(cls, sys_flag: int) -> CompressionType:
        """The type that a message's ``sys_flag`` names; 0 is what senders before 5.0 wrote for zlib.

        :param sys_flag: the message's flag.
        :raises RemoteProtocolError: for a number without a type.
        """
        number = (sys_flag & MessageSysFlag.COMPRESSION_TYPE_MASK) >> 8
        try:
            return cls(number) if number else cls.ZLIB
        except ValueError:
            raise RemoteProtocolError(f"message sys_flag {sys_flag:#x}: unknown compression type {number}") from None


class PullSysFlag:
    """Bits of a pull request's ``sysFlag``."""

    COMMIT_OFFSET = 1 << 0
    SUSPEND = 1 << 1
    SUBSCRIPTION = 1 << 2
    CLASS_FILTER = 1 << 3
    LITE_PULL = 1 << 4


def pull_sys_flag(
    *,
    commit_offset: bool = False,
    suspend: bool = False,
    subscription: bool = False,
    class_filter: bool = False,
    lite_pull: bool = False,
) -> int:
    """The ``sysFlag`` of a pull request; never blocks.

    Clear a bit with ``flag & ~PullSysFlag.SUSPEND``.

    :param commit_offset: the request's commit offset is to be stored (a master only).
    :param suspend: the broker is to hold the request while it has nothing.
    :param subscription: the request carries its filter expression.
    :param class_filter: the filter is a class on a filter server, as old releases had it.
    :param lite_pull: the request comes from a lite pull consumer.
    """
    return (
        commit_offset * PullSysFlag.COMMIT_OFFSET
        | suspend * PullSysFlag.SUSPEND
        | subscription * PullSysFlag.SUBSCRIPTION
        | class_filter * PullSysFlag.CLASS_FILTER
        | lite_pull * PullSysFlag.LITE_PULL
    )
