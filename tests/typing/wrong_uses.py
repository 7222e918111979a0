"""What type checkers must report: each line says what, and a report that does not come is an error."""

from goblins import Actor, PersistenceEnv, Vat, on, portraitize, send, spawn, tell


class Account(Actor):
    owner: str
    balance: int = 0

    def deposit(self, amount: int) -> int:
        self.balance += amount
        return self.balance


def wrong(vat: Vat, ada: Account) -> None:
    spawn(Account)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    spawn(Account, 5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    vat.spawn(Account, "Ada", colour=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ada.deposit("ten")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    send(ada.deposit, "ten")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    tell(ada.deposit)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ada.withdraw(5)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    text: str = send(ada.deposit, 5).result()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    on(send(ada.deposit, 5), lambda n: n.upper())  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    ada.balance = text  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    vat.drain("soon")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    PersistenceEnv("bank", Account, records=[5])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    portraitize(lambda: None, lambda value: value)  # type: ignore[misc, arg-type]  # pyright: ignore[reportArgumentType]
    PersistenceEnv("bank", records=Account)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
