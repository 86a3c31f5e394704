"""Names for containers nobody named: an adjective and a person, as Docker users expect them."""

import secrets
from collections.abc import Callable

_ADJECTIVES = """
    agile amber brave bright brisk calm candid clever cosmic crisp curious daring deft eager earnest fabled fearless fond
    frank gentle gifted glad golden grand happy hardy honest humble jolly keen kind lively lucid lucky mellow merry mighty
    modest nimble noble patient placid plucky polite proud quick quiet radiant ready robust serene sharp silent sincere sleek
    smart snug solid spirited steady stoic strong sunny swift tender thrifty tidy tranquil trusty upbeat valiant vivid warm
    wise witty zesty
"""
_PEOPLE = """
    abel ampere archimedes avicenna babbage banach bell bernoulli bohr boole bose brahmagupta cantor carson cauchy
    chandrasekhar church clarke colden copernicus coulomb curie darwin dijkstra dirac einstein engelbart euclid euler faraday
    fermat fermi feynman fibonacci fourier franklin galileo galois gauss germain goodall hamilton hawking heisenberg hertz
    hilbert hopper hubble hypatia jacobi joule kepler khwarizmi knuth kovalevskaya lagrange lamarr laplace leavitt leibniz
    lovelace maxwell mcclintock meitner mendel mendeleev mirzakhani newton nobel noether pascal pasteur payne perlman planck
    poincare ptolemy pythagoras raman ramanujan riemann ritchie rubin sagan shannon shirley tesla thales thompson torvalds
    turing volta wiles wright yalow
"""


def random_name(taken: Callable[[str], bool]) -> str:
    """A name for which `taken` is false; digits follow once the plain ones collide."""
    adjectives, people = _ADJECTIVES.split(), _PEOPLE.split()
    for attempt in range(64):
        name = f"{secrets.choice(adjectives)}_{secrets.choice(people)}"
        if attempt > 5:
            name += str(secrets.randbelow(10 ** (attempt // 6)))
        if not taken(name):
            return name
    return secrets.token_hex(8)
